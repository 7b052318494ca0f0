//! The list.

use std::collections::{BTreeMap, BTreeSet};

use syn::Item;

use crate::attributes::{self, Gates};
use crate::exports::{Export, Exports, exports};
use crate::impls::{Impl, WholePaths, impls};
use crate::member::{Line, definition};
use crate::paths::{Def, Names, name_of};
use crate::sources::{Modules, Sources, modules};

/// The public surface: an item a block, and what belongs to it below it.
///
/// # Panics
///
/// If there is something public that it can't follow.
pub fn surface(sources: &Sources) -> String {
    let modules = modules(sources);
    let names = Names::of(&modules);
    let exports = exports(&modules, &names);
    let list = List { modules: &modules, names: &names, exports: &exports, named: BTreeMap::new() };
    list.lines().iter().map(|line| printed(line, 0, &Gates::new())).collect()
}

struct List<'a> {
    modules: &'a Modules,
    names: &'a Names,
    exports: &'a Exports,
    /// The items of this crate that are named on it, and one that does.
    named: BTreeMap<Def, String>,
}

fn joined(path: &[String]) -> String {
    [&["crate".to_owned()], path].concat().join("::")
}

impl List<'_> {
    fn lines(mut self) -> Vec<Line> {
        let shown = |def: &Def| self.exports.shown(def).map(|export| export.path.clone()).unwrap_or_default();
        let mut lines: Vec<_> = self.items().into_iter().map(|(def, line)| (shown(&def), line)).collect();
        lines.extend(self.other_names());
        lines.sort();
        lines.into_iter().map(|(_, line)| line).chain(self.not_public()).collect()
    }

    /// Each item with what is implemented for it.
    fn items(&mut self) -> BTreeMap<Def, Line> {
        let mut items = BTreeMap::new();
        for def in self.exports.items.keys() {
            let Some(export) = self.exports.shown(def) else { continue };
            let mut line = self.define(def, &joined(&export.path));
            line.gates.extend(export.gates.iter().cloned());
            items.insert(def.clone(), line);
        }
        let mut impls = impls(self.modules, self.names, self.exports);
        impls.sort_by(|one, other| one.line.cmp(&other.line));
        for Impl { owner, line, named } in impls {
            let Some(item) = items.get_mut(&owner) else { continue };
            self.named.extend(named.into_iter().map(|def| (def, line.text.clone())));
            let same = item.below.iter_mut().find(|other| other.text == line.text && other.gates == line.gates);
            match same {
                Some(same) => {
                    same.below.extend(line.below);
                    same.below.sort();
                }
                None => item.below.push(line),
            }
        }
        items
    }

    fn define(&mut self, def: &Def, path: &str) -> Line {
        let item = &self.modules[&def.0].items[def.1];
        let mut names = WholePaths { names: self.names, exports: self.exports, module: &def.0, named: BTreeSet::new() };
        let mut line = definition(item, path, &mut names);
        self.named.extend(names.named.into_iter().map(|def| (def, path.to_owned())));
        let derives: Vec<_> = attributes::derives(attributes::of_item(item)).into_iter().collect();
        if !derives.is_empty() {
            line.below.push(Line { text: format!("derive {}", derives.join(", ")), ..Line::default() });
        }
        line
    }

    /// Modules, further paths of items, and names of other crates.
    fn other_names(&self) -> Vec<(Vec<String>, Line)> {
        let line = |export: &Export, text: String| {
            (export.path.clone(), Line { text, gates: export.gates.clone(), below: Vec::new() })
        };
        let used = |export: &Export, from: String| line(export, format!("pub use {} = {from}", joined(&export.path)));
        let modules = self.exports.modules.iter().filter(|export| !export.is_hidden);
        let modules = modules.map(|export| line(export, format!("pub mod {}", joined(&export.path))));
        let external = self.exports.external.iter().filter(|(export, _)| !export.is_hidden);
        let external = external.map(|(export, path)| used(export, path.join("::")));
        let again = self.exports.items.iter().filter_map(|(def, exports)| Some((self.exports.shown(def)?, exports)));
        let again = again.flat_map(|(first, exports)| {
            let others = exports.iter().filter(|export| !export.is_hidden && export.path != first.path);
            others.map(|export| used(export, joined(&first.path)))
        });
        modules.chain(external).chain(again).collect()
    }

    /// What the list names and has no path: users can't name it, and need to know what
    /// it is. Of a trait, that they can't implement it.
    fn not_public(&mut self) -> Vec<Line> {
        let mut lines = BTreeMap::new();
        let is_left =
            |def: &Def, lines: &BTreeMap<Def, Line>| self.exports.shown(def).is_none() && !lines.contains_key(def);
        while let Some((def, by)) = self.named.iter().find(|(def, _)| is_left(def, &lines)) {
            let (def, by) = (def.clone(), by.clone());
            let name = name_of(&self.modules[&def.0].items[def.1]).unwrap_or_default();
            let path: Vec<_> = def.0.iter().cloned().chain([name]).collect();
            assert!(!self.exports.items.contains_key(&def), "{by} shows {}, which is hidden", joined(&path));
            let is_trait = matches!(self.modules[&def.0].items[def.1], Item::Trait(_));
            let known = self.named.clone();
            let mut line = self.define(&def, &joined(&path));
            if is_trait {
                self.named = known;
                line.below.clear();
            }
            lines.insert(def, Line { text: format!("not public: {}", line.text), ..line });
        }
        let mut lines: Vec<_> = lines.into_values().collect();
        lines.sort();
        lines
    }
}

fn printed(line: &Line, depth: usize, above: &Gates) -> String {
    let own: Vec<_> = line.gates.difference(above).cloned().collect();
    let gates = if own.is_empty() { String::new() } else { format!("  [{}]", own.join(", ")) };
    let all = line.gates.union(above).cloned().collect();
    let below: String = line.below.iter().map(|line| printed(line, depth + 1, &all)).collect();
    format!("{}{}{gates}\n{below}", "    ".repeat(depth), line.text)
}

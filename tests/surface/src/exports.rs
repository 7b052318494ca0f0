//! What `lib.rs` leads to, and by which paths.

use std::collections::BTreeMap;

use syn::{Item, Visibility};

use crate::attributes::{self, Gates};
use crate::paths::{Def, Names, Target, imports, name_of};
use crate::sources::{ModulePath, Modules};

/// One way to what is public.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Export {
    /// Where it is found: a path from the root.
    pub(crate) path: Vec<String>,
    /// What that takes.
    pub(crate) gates: Gates,
    /// Whether documents show it there.
    pub(crate) is_hidden: bool,
}

/// All that is public.
#[derive(Default)]
pub(crate) struct Exports {
    pub(crate) items: BTreeMap<Def, Vec<Export>>,
    pub(crate) modules: Vec<Export>,
    /// Names of other crates.
    pub(crate) external: Vec<(Export, Vec<String>)>,
}

impl Exports {
    /// Where an item is shown: at its shortest path.
    pub(crate) fn shown(&self, def: &Def) -> Option<&Export> {
        let shown = self.items.get(def)?.iter().filter(|export| !export.is_hidden);
        shown.min_by_key(|export| (export.path.len(), &export.path))
    }
}

pub(crate) fn exports(modules: &Modules, names: &Names) -> Exports {
    let mut walk = Walk { modules, names, found: Exports::default(), open: Vec::new() };
    walk.module(&Vec::new(), &Export { path: Vec::new(), gates: Gates::new(), is_hidden: false });
    walk.macros();
    walk.found
}

struct Walk<'a> {
    modules: &'a Modules,
    names: &'a Names,
    found: Exports,
    /// The modules that are being walked: one may be in its own.
    open: Vec<ModulePath>,
}

impl Walk<'_> {
    /// All that is public in `module`, which is public as `export`.
    fn module(&mut self, module: &ModulePath, export: &Export) {
        if self.open.contains(module) {
            return;
        }
        self.open.push(module.clone());
        let there = &self.modules[module];
        let export = Export { gates: export.gates.union(&there.gates).cloned().collect(), ..export.clone() };
        for (at, item) in there.items.iter().enumerate().filter(|(_, item)| is_public(item)) {
            let attributes = attributes::of_item(item);
            let gates = attributes::gates(attributes).unwrap_or_default();
            let own = Export {
                path: export.path.clone(),
                gates: export.gates.union(&gates).cloned().collect(),
                is_hidden: export.is_hidden || attributes::is_hidden(attributes),
            };
            match item {
                Item::Use(item) => {
                    for import in imports(item) {
                        self.import(module, &import.path, import.name, &own);
                    }
                }
                Item::Mod(item) => {
                    let below = module.iter().cloned().chain([item.ident.to_string()]).collect();
                    self.target(Target::Module(below), named(&own, &item.ident.to_string()));
                }
                item => {
                    let name = name_of(item).unwrap_or_else(|| panic!("{module:?}: a public item without a name"));
                    self.target(Target::Item((module.clone(), at)), named(&own, &name));
                }
            }
        }
        self.open.pop();
    }

    fn import(&mut self, module: &ModulePath, path: &[String], name: Option<String>, export: &Export) {
        let targets = self.names.resolve(module, path);
        let what = || format!("pub use {} in {}", path.join("::"), module.join("::"));
        assert!(!targets.is_empty(), "{} leads nowhere that the list can follow", what());
        for target in targets {
            match (&name, target) {
                (Some(name), target) => self.target(target, named(export, name)),
                (None, Target::Module(module)) => self.module(&module, export),
                (None, _) => panic!("{} is a glob of no module of this crate", what()),
            }
        }
    }

    fn target(&mut self, target: Target, export: Export) {
        match target {
            Target::Module(module) => {
                self.found.modules.push(export.clone());
                self.module(&module, &export);
            }
            Target::External(path) => self.found.external.push((export, path)),
            Target::Item(def) => self.item(def, export),
        }
    }

    fn item(&mut self, def: Def, export: Export) {
        let module = &self.modules[&def.0];
        let attributes = attributes::of_item(&module.items[def.1]);
        let gates = module.gates.union(&attributes::gates(attributes).unwrap_or_default()).cloned().collect::<Gates>();
        let is_hidden = export.is_hidden || attributes::is_hidden(attributes);
        let export = Export { gates: export.gates.union(&gates).cloned().collect(), is_hidden, ..export };
        self.found.items.entry(def).or_default().push(export);
    }

    /// They are at the root, wherever they stand.
    fn macros(&mut self) {
        for (path, module) in self.modules {
            for (at, item) in module.items.iter().enumerate() {
                let Item::Macro(item) = item else { continue };
                if item.attrs.iter().any(|attribute| attribute.path().is_ident("macro_export")) {
                    let root = Export { path: Vec::new(), gates: Gates::new(), is_hidden: false };
                    let name = item.ident.as_ref().map(ToString::to_string).unwrap_or_default();
                    self.item((path.clone(), at), named(&root, &name));
                }
            }
        }
    }
}

fn named(export: &Export, name: &str) -> Export {
    let path = export.path.iter().cloned().chain([name.to_owned()]).collect();
    Export { path, ..export.clone() }
}

fn is_public(item: &Item) -> bool {
    let visibility = match item {
        Item::Const(item) => &item.vis,
        Item::Enum(item) => &item.vis,
        Item::ExternCrate(item) => &item.vis,
        Item::Fn(item) => &item.vis,
        Item::Mod(item) => &item.vis,
        Item::Static(item) => &item.vis,
        Item::Struct(item) => &item.vis,
        Item::Trait(item) => &item.vis,
        Item::TraitAlias(item) => &item.vis,
        Item::Type(item) => &item.vis,
        Item::Union(item) => &item.vis,
        Item::Use(item) => &item.vis,
        _ => return false,
    };
    matches!(visibility, Visibility::Public(_))
}

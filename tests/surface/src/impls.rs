//! Whole paths for names, and whose an `impl` is.

use std::collections::BTreeSet;

use syn::visit_mut::{self, VisitMut};
use syn::{Attribute, Block, Expr, Item, ItemImpl, Path, PathSegment, Type, TypePath};

use crate::attributes;
use crate::exports::Exports;
use crate::member::{Line, impl_item, is_met};
use crate::paths::{Def, Names, Target};
use crate::sources::{ModulePath, Modules};
use crate::text;

/// Puts the whole path in the place of each name: the public one, of items of this crate.
pub(crate) struct WholePaths<'a> {
    pub(crate) names: &'a Names,
    pub(crate) exports: &'a Exports,
    pub(crate) module: &'a ModulePath,
    /// The items of this crate that were named.
    pub(crate) named: BTreeSet<Def>,
}

impl WholePaths<'_> {
    /// What the path stands for, and how many segments of it.
    fn target(&self, path: &[String]) -> Option<(Target, usize)> {
        (1..=path.len()).rev().find_map(|length| {
            let targets = self.names.resolve(self.module, &path[..length]);
            let is_type = |target: &Target| !matches!(target, Target::Module(_));
            Some((targets.into_iter().find(is_type)?, length))
        })
    }

    fn whole(&mut self, path: &Path) -> Option<Path> {
        let words: Vec<_> = path.segments.iter().map(|segment| segment.ident.to_string()).collect();
        if path.leading_colon.is_some() {
            return Some(Path { leading_colon: None, ..path.clone() });
        }
        if words[0] == "Self" {
            return None;
        }
        let (target, length) = self.target(&words)?;
        let prefix = match target {
            Target::External(path) => path,
            Target::Item(def) => {
                let shown = self.exports.shown(&def).map(|export| export.path.clone());
                // One that is not public is where it is.
                let path = shown.unwrap_or_else(|| def.0.iter().cloned().chain([words[length - 1].clone()]).collect());
                self.named.insert(def);
                [vec!["crate".to_owned()], path].concat()
            }
            Target::Module(_) => return None,
        };
        let mut whole = path.clone();
        let rest: Vec<_> = path.segments.iter().skip(length - 1).cloned().collect();
        whole.segments =
            prefix.iter().map(|word| PathSegment::from(syn::Ident::new(word, rest[0].ident.span()))).collect();
        // The last of the new ones takes the arguments of the last of the old ones.
        if let Some(last) = whole.segments.last_mut() {
            last.arguments = rest[0].arguments.clone();
        }
        whole.segments.extend(rest.into_iter().skip(1));
        Some(whole)
    }
}

impl VisitMut for WholePaths<'_> {
    fn visit_path_mut(&mut self, path: &mut Path) {
        visit_mut::visit_path_mut(self, path);
        if let Some(whole) = self.whole(path) {
            *path = whole;
        }
    }

    fn visit_type_path_mut(&mut self, path: &mut TypePath) {
        let before = path.path.segments.len();
        visit_mut::visit_type_path_mut(self, path);
        if let Some(of) = &mut path.qself {
            of.position += path.path.segments.len() - before;
        }
    }

    // What bodies, values and attributes name is not part of a signature.
    fn visit_block_mut(&mut self, _: &mut Block) {}
    fn visit_expr_mut(&mut self, _: &mut Expr) {}
    fn visit_attribute_mut(&mut self, _: &mut Attribute) {}
}

/// An `impl`, and the item that it is listed with.
pub(crate) struct Impl {
    pub(crate) owner: Def,
    pub(crate) line: Line,
    /// The items of this crate that it names.
    pub(crate) named: BTreeSet<Def>,
}

/// All impls that users can meet.
pub(crate) fn impls(modules: &Modules, names: &Names, exports: &Exports) -> Vec<Impl> {
    let mut found = Vec::new();
    for (module, there) in modules {
        for item in &there.items {
            let Item::Impl(item) = item else { continue };
            let names = WholePaths { names, exports, module, named: BTreeSet::new() };
            if let Some(mut one) = listed(item, names) {
                one.line.gates.extend(there.gates.iter().cloned());
                found.push(one);
            }
        }
    }
    found
}

fn listed(item: &ItemImpl, mut names: WholePaths<'_>) -> Option<Impl> {
    let gates = attributes::gates(&item.attrs).filter(|_| !attributes::is_hidden(&item.attrs))?;
    let mut whole = item.clone();
    names.visit_type_mut(&mut whole.self_ty);
    let of_self = head(&item.self_ty, &names);
    if let Some((path, _)) = &mut whole.trait_ {
        names.visit_path_mut(path);
    }
    let owner = of_self.or_else(|| names.named.first().cloned());
    let owner = owner.unwrap_or_else(|| panic!("{}: whose is {}?", names.module.join("::"), text::of(&whole.self_ty)));
    // With a private name in it, it is met by this crate only.
    let is_public = |def: &Def| names.exports.shown(def).is_some();
    if !names.named.iter().all(is_public) {
        return None;
    }
    let is_of_trait = whole.trait_.is_some();
    whole.items.retain(|item| is_met(item, is_of_trait));
    whole.items.iter_mut().for_each(|item| names.visit_impl_item_mut(item));
    names.visit_generics_mut(&mut whole.generics);
    let mut below: Vec<_> = whole.items.iter().filter_map(impl_item).collect();
    below.sort();
    if below.is_empty() && !is_of_trait {
        return None;
    }
    Some(Impl { owner, line: Line { text: header(&whole), gates, below }, named: names.named })
}

/// The item whose type this is, if it is one of this crate.
fn head(written: &Type, names: &WholePaths<'_>) -> Option<Def> {
    let Type::Path(path) = written else { return None };
    let words: Vec<_> = path.path.segments.iter().map(|segment| segment.ident.to_string()).collect();
    match names.target(&words)? {
        (Target::Item(def), _) => Some(def),
        _ => None,
    }
}

fn header(item: &ItemImpl) -> String {
    let generics = text::of(&item.generics);
    let of_trait = item.trait_.as_ref().map(|(path, _)| format!("{} for ", text::of(path))).unwrap_or_default();
    let clause = text::of(&item.generics.where_clause);
    let of = text::of(&item.self_ty);
    format!("impl{generics} {of_trait}{of} {clause}").trim_end().to_owned()
}

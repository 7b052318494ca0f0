//! What a path stands for, by the names that are in scope.

use std::collections::BTreeMap;

use syn::{Item, ItemUse, UseTree};

use crate::sources::{ModulePath, Modules};

/// An item: its module, and which one of that.
pub(crate) type Def = (ModulePath, usize);

/// What a path leads to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Target {
    Module(ModulePath),
    Item(Def),
    /// A name of another crate, or of no module: a prelude's, or a parameter.
    External(Vec<String>),
}

/// What a name of a module is.
enum Binding {
    Module(ModulePath),
    Item(Def),
    Import(Vec<String>),
}

/// What a `use` says: a path, and a name for it or `None` for all that is in it.
pub(crate) struct Import {
    pub(crate) path: Vec<String>,
    pub(crate) name: Option<String>,
}

/// The names of every module.
pub(crate) struct Names {
    names: BTreeMap<ModulePath, BTreeMap<String, Vec<Binding>>>,
    globs: BTreeMap<ModulePath, Vec<Vec<String>>>,
}

/// Before the name of another crate.
const ELSEWHERE: &str = "::";

/// More steps than this are a circle.
const STEPS: usize = 16;

pub(crate) fn name_of(item: &Item) -> Option<String> {
    let name = match item {
        Item::Const(item) => &item.ident,
        Item::Enum(item) => &item.ident,
        Item::Fn(item) => &item.sig.ident,
        Item::Macro(item) => item.ident.as_ref()?,
        Item::Static(item) => &item.ident,
        Item::Struct(item) => &item.ident,
        Item::Trait(item) => &item.ident,
        Item::TraitAlias(item) => &item.ident,
        Item::Type(item) => &item.ident,
        Item::Union(item) => &item.ident,
        _ => return None,
    };
    Some(name.to_string())
}

/// Each import of a `use`. A path that says that it is another crate's has a first name
/// that is none.
pub(crate) fn imports(item: &ItemUse) -> Vec<Import> {
    let mut imports = below(&item.tree);
    if item.leading_colon.is_some() {
        imports.iter_mut().for_each(|import| import.path.insert(0, ELSEWHERE.to_owned()));
    }
    imports
}

fn below(tree: &UseTree) -> Vec<Import> {
    let of = |path: Vec<String>, name: Option<String>| vec![Import { path, name }];
    match tree {
        UseTree::Path(path) => {
            let mut below = below(&path.tree);
            below.iter_mut().for_each(|import| import.path.insert(0, path.ident.to_string()));
            // `{self}` is the module itself.
            for import in below.iter_mut().filter(|import| import.path.len() > 1 && ends_in_self(import)) {
                import.path.pop();
                import.name = import.name.take().map(|name| if name == "self" { path.ident.to_string() } else { name });
            }
            below
        }
        UseTree::Name(name) => of(vec![name.ident.to_string()], Some(name.ident.to_string())),
        UseTree::Rename(name) => of(vec![name.ident.to_string()], Some(name.rename.to_string())),
        UseTree::Glob(_) => of(Vec::new(), None),
        UseTree::Group(group) => group.items.iter().flat_map(below).collect(),
    }
}

fn ends_in_self(import: &Import) -> bool {
    import.name.is_some() && import.path.last().is_some_and(|name| name == "self")
}

impl Names {
    pub(crate) fn of(modules: &Modules) -> Self {
        let (mut names, mut globs) = (BTreeMap::new(), BTreeMap::new());
        for (path, module) in modules {
            let own: &mut BTreeMap<String, Vec<Binding>> = names.entry(path.clone()).or_default();
            for (at, item) in module.items.iter().enumerate() {
                if let Some(name) = name_of(item) {
                    own.entry(name).or_default().push(Binding::Item((path.clone(), at)));
                }
                match item {
                    Item::Mod(module) => {
                        let name = module.ident.to_string();
                        let below = path.iter().cloned().chain([name.clone()]).collect();
                        own.entry(name).or_default().push(Binding::Module(below));
                    }
                    Item::Use(item) => {
                        for Import { path: target, name } in imports(item) {
                            match name {
                                Some(name) => own.entry(name).or_default().push(Binding::Import(target)),
                                None => globs.entry(path.clone()).or_insert_with(Vec::new).push(target),
                            }
                        }
                    }
                    _ => {}
                }
            }
        }
        Self { names, globs }
    }

    /// All that this path stands for, as seen from the module `at`: a name may be a
    /// module and a function.
    pub(crate) fn resolve(&self, at: &[String], path: &[String]) -> Vec<Target> {
        self.resolved(at, path, 0)
    }

    fn resolved(&self, at: &[String], path: &[String], steps: usize) -> Vec<Target> {
        let Some((first, rest)) = path.split_first().filter(|_| steps < STEPS) else { return Vec::new() };
        match first.as_str() {
            ELSEWHERE => vec![Target::External(rest.to_vec())],
            "crate" => self.below(&[], rest, steps),
            "self" => self.below(at, rest, steps),
            "super" => {
                let mut above = at.to_vec();
                above.pop();
                match rest.first() {
                    Some(next) if next == "super" => self.resolved(&above, rest, steps),
                    _ => self.below(&above, rest, steps),
                }
            }
            _ if self.is_known(at, path) => self.below(at, path, steps),
            _ => self.through_globs(at, path, steps).unwrap_or_else(|| vec![Target::External(path.to_vec())]),
        }
    }

    /// Whether a path begins with a name of this module. An import of a name of the
    /// same name (`use async_trait::async_trait`) is none.
    fn is_known(&self, at: &[String], path: &[String]) -> bool {
        let bindings = self.names.get(at).and_then(|names| names.get(&path[0]));
        let is_other = |binding: &Binding| !matches!(binding, Binding::Import(import) if import == path);
        bindings.is_some_and(|bindings| bindings.iter().any(is_other))
    }

    fn through_globs(&self, at: &[String], path: &[String], steps: usize) -> Option<Vec<Target>> {
        let globs = self.globs.get(at).into_iter().flatten();
        let found = globs.flat_map(|glob| self.resolved(at, glob, steps + 1)).filter_map(|target| match target {
            Target::Module(module) => Some(self.below(&module, path, steps + 1)),
            _ => None,
        });
        found.into_iter().find(|found| !found.is_empty())
    }

    /// What the path is in this module.
    fn below(&self, module: &[String], path: &[String], steps: usize) -> Vec<Target> {
        let Some((name, rest)) = path.split_first() else { return vec![Target::Module(module.to_vec())] };
        let Some(bindings) = self.names.get(module).and_then(|names| names.get(name)) else {
            return self.through_globs(module, path, steps).unwrap_or_default();
        };
        if rest.is_empty() {
            return bindings.iter().flat_map(|binding| self.target(module, binding, steps)).collect();
        }
        // A module of this name goes first: another meaning has nothing below it.
        let is_module = |binding: &&Binding| matches!(binding, Binding::Module(_));
        let binding = bindings.iter().find(is_module).or_else(|| bindings.first());
        let targets = binding.into_iter().flat_map(|binding| self.target(module, binding, steps));
        let found = targets.flat_map(|target| match target {
            Target::Module(module) => self.below(&module, rest, steps + 1),
            Target::External(path) => vec![Target::External(path.into_iter().chain(rest.iter().cloned()).collect())],
            Target::Item(_) => Vec::new(),
        });
        found.collect()
    }

    fn target(&self, module: &[String], binding: &Binding, steps: usize) -> Vec<Target> {
        match binding {
            Binding::Module(path) => vec![Target::Module(path.clone())],
            Binding::Item(def) => vec![Target::Item(def.clone())],
            Binding::Import(path) => self.resolved(module, path, steps + 1),
        }
    }
}

//! The modules of a crate, and what is in each.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use syn::{Item, ItemMacro};

use crate::attributes::{self, Gates};

/// Macros that make nothing public. Any other one outside of a function is refused.
const PRIVATE_MACROS: [&str; 6] = ["each", "script", "store_on_sqlx", "task_local", "thread_local", "values"];

/// The text of each file, by its path below `src`.
pub type Sources = BTreeMap<String, String>;

/// A path from the root of the crate: nothing for the root itself.
pub(crate) type ModulePath = Vec<String>;

/// What stands in one module.
pub(crate) struct Module {
    /// What it takes for the module to be there.
    pub(crate) gates: Gates,
    pub(crate) items: Vec<Item>,
}

/// All modules of a crate, less its tests.
pub(crate) type Modules = BTreeMap<ModulePath, Module>;

/// Reads all files below this folder.
///
/// # Panics
///
/// If one can't be read.
pub fn read(folder: &Path) -> Sources {
    let mut sources = Sources::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(next) = folders.pop() {
        for entry in fs::read_dir(next).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let name = path.strip_prefix(folder).unwrap().to_str().unwrap().replace('\\', "/");
                sources.insert(name, fs::read_to_string(&path).unwrap());
            }
        }
    }
    sources
}

/// The modules that `lib.rs` leads to.
pub(crate) fn modules(sources: &Sources) -> Modules {
    let mut modules = Modules::new();
    let root = syn::parse_file(&sources["lib.rs"]).unwrap_or_else(|error| panic!("lib.rs: {error}"));
    add(sources, &mut modules, Vec::new(), Gates::new(), root.items);
    modules
}

fn add(sources: &Sources, modules: &mut Modules, path: ModulePath, gates: Gates, items: Vec<Item>) {
    let mut kept = Vec::new();
    for item in items.into_iter().flat_map(|item| expanded(item, &path)) {
        attributes::check(attributes::of_item(&item), &path.join("::"));
        let Some(own) = attributes::gates(attributes::of_item(&item)) else { continue };
        if let Item::Mod(module) = &item {
            let mut below = path.clone();
            below.push(module.ident.to_string());
            let inner = match &module.content {
                Some((_, items)) => items.clone(),
                None => file_of(sources, &below),
            };
            add(sources, modules, below, gates.union(&own).cloned().collect(), inner);
        }
        kept.push(item);
    }
    modules.insert(path, Module { gates, items: kept });
}

fn file_of(sources: &Sources, path: &[String]) -> Vec<Item> {
    let path = path.join("/");
    let names = [format!("{path}.rs"), format!("{path}/mod.rs")];
    let found = names.iter().find_map(|name| Some((name, sources.get(name)?)));
    let (name, text) = found.unwrap_or_else(|| panic!("no file for the module {path}"));
    syn::parse_file(text).unwrap_or_else(|error| panic!("{name}: {error}")).items
}

/// The items that a macro stands for.
fn expanded(item: Item, path: &[String]) -> Vec<Item> {
    let Item::Macro(ItemMacro { mac, .. }) = &item else { return vec![item] };
    let name = mac.path.segments.last().map(|segment| segment.ident.to_string()).unwrap_or_default();
    match name.as_str() {
        "macro_rules" => vec![item],
        "pin_project" => mac.parse_body::<syn::File>().unwrap_or_else(|error| panic!("{path:?}: {error}")).items,
        name if PRIVATE_MACROS.contains(&name) => Vec::new(),
        name => panic!("{}: what does {name}! make? The list can't see it", path.join("::")),
    }
}

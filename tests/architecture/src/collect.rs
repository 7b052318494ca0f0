//! Walks the files that `lib.rs` leads to, and notes all that they name.

use std::collections::BTreeSet;

use quote::ToTokens;
use syn::visit::{self, Visit};
use syn::{
    Attribute, ExprAsync, ExprAwait, ExprMethodCall, ImplItem, Item, ItemMod, ItemUse, Macro, Path, QSelf, Signature,
    TraitItem, Type, UseTree, Visibility,
};

use crate::resolve::{ELSEWHERE, ModulePath, Name, Scopes, Target};
use crate::{attributes, tokens};
use surface::Sources;

/// A path that a file names, as it stands there.
pub struct Use {
    /// The file.
    pub file: String,
    module: ModulePath,
    /// Its names.
    pub path: Vec<String>,
}

/// A call of a method.
pub struct Call {
    /// The file.
    pub file: String,
    /// The method.
    pub name: String,
    /// How many arguments it gets, less the receiver.
    pub arguments: usize,
}

/// What the files of a library name, less its tests.
#[derive(Default)]
pub struct Library {
    /// The files that are compiled for others than tests.
    pub files: BTreeSet<String>,
    /// All that they name.
    pub uses: Vec<Use>,
    /// All methods that they call.
    pub calls: Vec<Call>,
    /// The files with code that waits: `async` and `await`.
    pub asynchronous: BTreeSet<String>,
    /// What hides from this what is named.
    pub refused: Vec<String>,
    scopes: Scopes,
}

impl Library {
    /// Walks all modules.
    pub fn of(sources: &Sources) -> Self {
        let mut library = Self::default();
        let mut tests = BTreeSet::new();
        let mut walk =
            Walk { library: &mut library, sources, tests: &mut tests, file: String::new(), module: Vec::new() };
        walk.read("lib.rs", Vec::new());
        let known: BTreeSet<_> = library.files.union(&tests).cloned().collect();
        let lost = sources.keys().filter(|file| !known.contains(*file));
        library.refused.extend(lost.map(|file| format!("no module leads to {file}")));
        library
    }

    /// All that it may stand for.
    pub fn targets(&self, named: &Use) -> Vec<Target> {
        self.scopes.resolve(&named.module, &named.path)
    }
}

struct Walk<'a> {
    library: &'a mut Library,
    sources: &'a Sources,
    tests: &'a mut BTreeSet<String>,
    file: String,
    module: ModulePath,
}

impl Walk<'_> {
    fn read(&mut self, file: &str, module: ModulePath) {
        let parsed = syn::parse_file(&self.sources[file]).unwrap_or_else(|error| panic!("{file}: {error}"));
        let of = (std::mem::replace(&mut self.file, file.to_owned()), std::mem::replace(&mut self.module, module));
        self.library.files.insert(file.to_owned());
        self.visit_file(&parsed);
        (self.file, self.module) = of;
    }

    /// The file of a module that is declared here.
    fn file_of(&self, module: &[String]) -> Option<String> {
        let path = module.join("/");
        [format!("{path}.rs"), format!("{path}/mod.rs")].into_iter().find(|file| self.sources.contains_key(file))
    }

    /// All files of a module of tests.
    fn leave(&mut self, module: &[String]) {
        let Some(file) = self.file_of(module) else { return };
        let folder = format!("{}/", module.join("/"));
        self.tests.extend(self.sources.keys().filter(|other| other.starts_with(&folder)).cloned());
        self.tests.insert(file);
    }

    fn refuse(&mut self, why: &str) {
        self.library.refused.push(format!("{}: {why}", self.file));
    }

    /// A name on its own is a value's, or was imported or declared here.
    fn note(&mut self, path: Vec<String>) {
        if path.len() > 1 {
            self.take(path);
        }
    }

    fn take(&mut self, path: Vec<String>) {
        self.library.uses.push(Use { file: self.file.clone(), module: self.module.clone(), path });
    }

    fn import(&mut self, import: &ItemUse) {
        let first = import.leading_colon.as_ref().map(|_| ELSEWHERE.to_owned());
        for (path, name) in imports(&import.tree) {
            let path: Vec<String> = first.iter().cloned().chain(path).collect();
            match name {
                Some(name) => self.library.scopes.add(&self.module, name, Name::Import(path.clone())),
                None => self.library.scopes.scope(&self.module).globs.push(path.clone()),
            }
            self.take(path);
        }
    }

    fn scan(&mut self, tokens: proc_macro2::TokenStream) {
        let found = tokens::find(tokens);
        found.imports.iter().for_each(|import| self.import(import));
        found.paths.into_iter().for_each(|path| self.note(path));
        found.refused.iter().for_each(|why| self.refuse(why));
        let calls = found.calls.into_iter();
        self.library.calls.extend(calls.map(|(name, arguments)| Call { file: self.file.clone(), name, arguments }));
        for word in found.words {
            match word.as_str() {
                "include" => self.refuse("include!, in a macro"),
                "async" | "await" => self.waits(),
                _ => {}
            }
        }
    }

    fn waits(&mut self) {
        self.library.asynchronous.insert(self.file.clone());
    }

    fn declare(&mut self, module: &ItemMod) {
        let name = plain(&module.ident);
        let below = [&self.module[..], std::slice::from_ref(&name)].concat();
        if attributes::have(&module.attrs, "path") || attributes::have(&module.attrs, "macro_use") {
            self.refuse(&format!("an attribute of the module {name}"));
        }
        self.library.scopes.add(&self.module, name, Name::Child);
        self.library.scopes.scope(&below);
        if let Some((_, items)) = &module.content {
            let above = std::mem::replace(&mut self.module, below);
            items.iter().for_each(|item| self.visit_item(item));
            self.module = above;
        } else if let Some(file) = self.file_of(&below) {
            self.read(&file, below);
        } else {
            self.refuse(&format!("the module {} has no file", below.join("::")));
        }
    }

    fn qualified(&mut self, qself: Option<&QSelf>, path: &Path) {
        let Some(QSelf { ty, position: 0, .. }) = qself else { return };
        if let Type::Path(of) = &**ty {
            self.note(
                names(&of.path).into_iter().chain(names(path).into_iter().filter(|name| name != ELSEWHERE)).collect(),
            );
        }
    }
}

fn plain(name: &syn::Ident) -> String {
    name.to_string().trim_start_matches("r#").to_owned()
}

fn names(path: &Path) -> Vec<String> {
    let first = path.leading_colon.as_ref().map(|_| ELSEWHERE.to_owned());
    first.into_iter().chain(path.segments.iter().map(|segment| plain(&segment.ident))).collect()
}

/// Each path of an import, and the name that it gets here: none for all that is in it.
fn imports(tree: &UseTree) -> Vec<(Vec<String>, Option<String>)> {
    match tree {
        UseTree::Path(path) => {
            let mut below = imports(&path.tree);
            for (names, name) in &mut below {
                names.insert(0, plain(&path.ident));
                // `{self}` is the module itself.
                if names.len() > 1 && names.last().is_some_and(|name| name == "self") {
                    names.pop();
                    *name = name.take().map(|name| if name == "self" { plain(&path.ident) } else { name });
                }
            }
            below
        }
        UseTree::Name(name) => vec![(vec![plain(&name.ident)], Some(plain(&name.ident)))],
        UseTree::Rename(name) => vec![(vec![plain(&name.ident)], Some(plain(&name.rename)))],
        UseTree::Glob(_) => vec![(Vec::new(), None)],
        UseTree::Group(group) => group.items.iter().flat_map(imports).collect(),
    }
}

impl<'ast> Visit<'ast> for Walk<'_> {
    fn visit_item(&mut self, item: &'ast Item) {
        if !attributes::are_of_a_test(attributes::of_item(item)) {
            visit::visit_item(self, item);
        } else if let Item::Mod(module) = item {
            self.leave(&[&self.module[..], &[plain(&module.ident)]].concat());
        }
    }

    fn visit_impl_item(&mut self, item: &'ast ImplItem) {
        if !attributes::are_of_a_test(attributes::of_impl_item(item)) {
            visit::visit_impl_item(self, item);
        }
    }

    fn visit_trait_item(&mut self, item: &'ast TraitItem) {
        if !attributes::are_of_a_test(attributes::of_trait_item(item)) {
            visit::visit_trait_item(self, item);
        }
    }

    fn visit_item_mod(&mut self, module: &'ast ItemMod) {
        self.declare(module);
    }

    fn visit_item_use(&mut self, import: &'ast ItemUse) {
        self.import(import);
    }

    fn visit_item_extern_crate(&mut self, item: &'ast syn::ItemExternCrate) {
        self.refuse(&format!("extern crate {}", item.ident));
    }

    fn visit_item_macro(&mut self, item: &'ast syn::ItemMacro) {
        if let (Some(name), true) = (&item.ident, attributes::have(&item.attrs, "macro_export")) {
            let made_by = Name::Macro(self.module.clone());
            self.library.scopes.add(&[], plain(name), made_by);
        }
        visit::visit_item_macro(self, item);
    }

    fn visit_macro(&mut self, called: &'ast Macro) {
        let path = names(&called.path);
        if path.last().is_some_and(|name| name == "include") {
            self.refuse("include!");
        }
        self.note(path);
        self.scan(called.tokens.clone());
    }

    fn visit_path(&mut self, path: &'ast Path) {
        self.note(names(path));
        visit::visit_path(self, path);
    }

    fn visit_expr_path(&mut self, expr: &'ast syn::ExprPath) {
        self.qualified(expr.qself.as_ref(), &expr.path);
        visit::visit_expr_path(self, expr);
    }

    fn visit_type_path(&mut self, of: &'ast syn::TypePath) {
        self.qualified(of.qself.as_ref(), &of.path);
        visit::visit_type_path(self, of);
    }

    /// `pub(in path)` only says which module may see it, which is one around it.
    fn visit_visibility(&mut self, _: &'ast Visibility) {}

    fn visit_attribute(&mut self, attribute: &'ast Attribute) {
        let text = attribute.meta.to_token_stream();
        let is_doc = attribute.path().is_ident("doc") || text.to_string().contains("doc =");
        if !is_doc {
            self.scan(text);
        }
    }

    fn visit_expr_method_call(&mut self, call: &'ast ExprMethodCall) {
        let name = plain(&call.method);
        self.library.calls.push(Call { file: self.file.clone(), name, arguments: call.args.len() });
        visit::visit_expr_method_call(self, call);
    }

    fn visit_signature(&mut self, signature: &'ast Signature) {
        if signature.asyncness.is_some() {
            self.waits();
        }
        visit::visit_signature(self, signature);
    }

    fn visit_expr_async(&mut self, expr: &'ast ExprAsync) {
        self.waits();
        visit::visit_expr_async(self, expr);
    }

    fn visit_expr_await(&mut self, expr: &'ast ExprAwait) {
        self.waits();
        visit::visit_expr_await(self, expr);
    }
}

//! What a path stands for, by the names that are in scope.

use std::collections::BTreeMap;

use crate::tokens::OF_A_MACRO;

/// A path from the root of the crate: nothing for the root itself.
pub(crate) type ModulePath = Vec<String>;

/// Before the name of another crate.
pub(crate) const ELSEWHERE: &str = "::";

/// More steps than this are a circle of names.
const STEPS: usize = 16;

/// Where a path leads.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Target {
    /// From the root of this crate.
    Inside(Vec<String>),
    /// To another crate, or to what is in scope everywhere.
    Outside(Vec<String>),
}

/// What a name of a module is.
pub(crate) enum Name {
    Child,
    Import(Vec<String>),
    /// A macro of this module, which is at the root for others.
    Macro(ModulePath),
}

/// The names of one module that may begin a path.
#[derive(Default)]
pub(crate) struct Scope {
    pub(crate) names: BTreeMap<String, Vec<Name>>,
    pub(crate) globs: Vec<Vec<String>>,
}

#[derive(Default)]
pub(crate) struct Scopes(pub(crate) BTreeMap<ModulePath, Scope>);

impl Scopes {
    pub(crate) fn scope(&mut self, module: &[String]) -> &mut Scope {
        self.0.entry(module.to_vec()).or_default()
    }

    pub(crate) fn add(&mut self, module: &[String], name: String, what: Name) {
        self.scope(module).names.entry(name).or_default().push(what);
    }

    /// All that this path may stand for, as seen from the module `at`.
    pub(crate) fn resolve(&self, at: &[String], path: &[String]) -> Vec<Target> {
        self.resolved(at, path, STEPS)
    }

    fn resolved(&self, at: &[String], path: &[String], steps: usize) -> Vec<Target> {
        let Some((first, rest)) = path.split_first().filter(|_| steps > 0) else { return Vec::new() };
        let inside = |base: &[String], rest: &[String]| vec![Target::Inside([base, rest].concat())];
        match first.as_str() {
            ELSEWHERE => vec![Target::Outside(rest.to_vec())],
            "crate" => inside(&[], rest),
            // A macro for other crates names what those see: so does its path.
            OF_A_MACRO => self.named(&[], rest, steps).unwrap_or_else(|| inside(&[], rest)),
            "self" => inside(at, rest),
            "super" => {
                let above = &at[..at.len().saturating_sub(1)];
                match rest.first() {
                    Some(next) if next == "super" => self.resolved(above, rest, steps),
                    _ => inside(above, rest),
                }
            }
            _ => self.named(at, path, steps).unwrap_or_else(|| vec![Target::Outside(path.to_vec())]),
        }
    }

    /// What a path is that begins with a name of this module.
    fn named(&self, module: &[String], path: &[String], steps: usize) -> Option<Vec<Target>> {
        let (first, rest) = path.split_first().filter(|_| steps > 0)?;
        let scope = self.0.get(module)?;
        // An import of a name under that name (`use metrics::metrics`) is another one.
        let is_other = |name: &&Name| !matches!(name, Name::Import(import) if import[0] == *first);
        let names: Vec<_> = scope.names.get(first).into_iter().flatten().filter(is_other).collect();
        if names.is_empty() {
            return scope.globs.iter().find_map(|glob| self.through(module, glob, path, steps));
        }
        let target = |name: &Name| match name {
            Name::Child => vec![Target::Inside([module, path].concat())],
            Name::Macro(module) => vec![Target::Inside(module.clone())],
            Name::Import(import) => self.resolved(module, &[&import[..], rest].concat(), steps - 1),
        };
        Some(names.into_iter().flat_map(target).collect())
    }

    fn through(&self, at: &[String], glob: &[String], path: &[String], steps: usize) -> Option<Vec<Target>> {
        let found = self.resolved(at, glob, steps - 1);
        found.into_iter().find_map(|target| match target {
            Target::Inside(module) => self.named(&module, path, steps - 1),
            Target::Outside(_) => None,
        })
    }
}

//! An item and its members, as lines.

use syn::visit_mut::VisitMut;
use syn::{Attribute, Field, Fields, FnArg, ImplItem, Item, Pat, Signature, TraitItem, Visibility, parse_quote};

use crate::attributes::{self, Gates};
use crate::impls::WholePaths;
use crate::text;

/// One line of the list, and the lines that belong to it.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Line {
    pub(crate) text: String,
    pub(crate) gates: Gates,
    pub(crate) below: Vec<Line>,
}

/// What stands for fields and variants that users can't name.
const MORE: &str = "..";

/// A rule of a macro: its pattern, `=`, `>`, what it makes, and `;`.
const RULE: usize = 5;

fn line(attributes: &[Attribute], text: &str) -> Option<Line> {
    attributes::check(attributes, text);
    let gates = attributes::gates(attributes).filter(|_| !attributes::is_hidden(attributes))?;
    Some(Line { text: format!("{}{text}", attributes::shown(attributes)), gates, below: Vec::new() })
}

fn is_public(visibility: &Visibility) -> bool {
    matches!(visibility, Visibility::Public(_))
}

fn is_shown(attributes: &[Attribute]) -> bool {
    !attributes::is_hidden(attributes) && attributes::gates(attributes).is_some()
}

/// Takes out the names of what users can't name.
fn without_private_names(item: &mut Item) {
    let clear = |field: &mut Field| {
        if !is_public(&field.vis) || !is_shown(&field.attrs) {
            field.ty = parse_quote!(_);
        }
    };
    match item {
        Item::Struct(item) => item.fields.iter_mut().for_each(clear),
        Item::Trait(item) => item.items.retain(|item| is_shown(attributes::of_trait_item(item))),
        Item::Enum(item) => {
            for variant in item.variants.iter_mut().filter(|variant| !is_shown(&variant.attrs)) {
                variant.fields.iter_mut().for_each(|field| field.ty = parse_quote!(_));
            }
        }
        _ => {}
    }
}

/// The item under its public path. Its gates are those of its export.
pub(crate) fn definition(item: &Item, path: &str, names: &mut WholePaths<'_>) -> Line {
    let mut item = item.clone();
    without_private_names(&mut item);
    names.visit_item_mut(&mut item);
    let shown = attributes::shown(attributes::of_item(&item));
    let of = |text: String, below: Vec<Line>| Line { text: format!("{shown}{text}"), gates: Gates::new(), below };
    match &item {
        Item::Fn(item) => of(format!("pub {}", signature(&item.sig, path)), Vec::new()),
        Item::Const(item) => of(format!("pub const {path}: {}", text::of(&item.ty)), Vec::new()),
        Item::Static(item) => of(format!("pub static {path}: {}", text::of(&item.ty)), Vec::new()),
        Item::Type(item) => {
            of(format!("pub type {path}{} = {}", text::of(&item.generics), text::of(&item.ty)), Vec::new())
        }
        Item::Struct(item) => {
            let (generics, clause) = (text::of(&item.generics), text::of(&item.generics.where_clause));
            of(spaced(&["pub struct", &format!("{path}{generics}"), &clause]), fields(&item.fields))
        }
        Item::Enum(item) => {
            let (generics, clause) = (text::of(&item.generics), text::of(&item.generics.where_clause));
            let mut below: Vec<_> = item.variants.iter().filter_map(variant).collect();
            if below.len() < item.variants.len() {
                below.push(named(MORE));
            }
            of(spaced(&["pub enum", &format!("{path}{generics}"), &clause]), below)
        }
        Item::Trait(item) => {
            let (generics, clause) = (text::of(&item.generics), text::of(&item.generics.where_clause));
            let above = if item.supertraits.is_empty() { String::new() } else { text::of(&item.supertraits) };
            let colon = if above.is_empty() { "" } else { ":" };
            let head = spaced(&[&text::of(&item.unsafety), "pub trait", &format!("{path}{generics}{colon}"), &above]);
            of(spaced(&[&head, &clause]), item.items.iter().filter_map(trait_item).collect())
        }
        Item::Macro(item) => {
            let patterns = item.mac.tokens.clone().into_iter().step_by(RULE);
            of(format!("macro {path}!"), patterns.map(|pattern| named(&text::of(&pattern))).collect())
        }
        _ => panic!("{path}: an item of a kind that the list does not know"),
    }
}

fn spaced(parts: &[&str]) -> String {
    parts.iter().filter(|part| !part.is_empty()).copied().collect::<Vec<_>>().join(" ")
}

fn named(text: &str) -> Line {
    Line { text: text.to_owned(), ..Line::default() }
}

fn signature(signature: &Signature, path: &str) -> String {
    let mut signature = signature.clone();
    for input in &mut signature.inputs {
        match input {
            // Whether it is `mut` is for the body.
            FnArg::Typed(argument) => {
                if let Pat::Ident(name) = &mut *argument.pat {
                    name.mutability = None;
                }
                argument.attrs.clear();
            }
            FnArg::Receiver(receiver) => receiver.mutability = None,
        }
    }
    let name = signature.ident.to_string();
    text::of(&signature).replacen(&format!("fn {name}"), &format!("fn {path}"), 1)
}

fn fields(fields: &Fields) -> Vec<Line> {
    let mut lines = Vec::new();
    for (at, field) in fields.iter().enumerate() {
        let name = field.ident.as_ref().map_or_else(|| at.to_string(), ToString::to_string);
        if is_public(&field.vis) {
            lines.extend(line(&field.attrs, &format!("pub {name}: {}", text::of(&field.ty))));
        }
    }
    match fields {
        Fields::Unit => lines.push(named("(unit)")),
        _ if lines.len() < fields.len() => lines.push(named(MORE)),
        _ => {}
    }
    lines
}

fn variant(variant: &syn::Variant) -> Option<Line> {
    let mut bare = variant.clone();
    bare.attrs.clear();
    for field in &mut bare.fields {
        field.attrs.clear();
    }
    line(&variant.attrs, &text::of(&bare))
}

fn trait_item(item: &TraitItem) -> Option<Line> {
    match item {
        TraitItem::Fn(item) => {
            let default = if item.default.is_some() { " { .. }" } else { "" };
            let text = format!("{}{default}", signature(&item.sig, &item.sig.ident.to_string()));
            line(&item.attrs, &text)
        }
        TraitItem::Type(item) => {
            let mut bare = item.clone();
            bare.attrs.clear();
            line(&item.attrs, text::of(&bare).trim_end_matches(';'))
        }
        TraitItem::Const(item) => {
            let default = if item.default.is_some() { " = .." } else { "" };
            line(&item.attrs, &format!("const {}: {}{default}", item.ident, text::of(&item.ty)))
        }
        _ => panic!("a member of a trait that the list does not know"),
    }
}

/// Whether users meet this member of an `impl`. What a trait's functions are, the trait
/// says.
pub(crate) fn is_met(item: &ImplItem, is_of_trait: bool) -> bool {
    match item {
        ImplItem::Fn(item) => !is_of_trait && is_public(&item.vis) && is_shown(&item.attrs),
        ImplItem::Const(item) => !is_of_trait && is_public(&item.vis) && is_shown(&item.attrs),
        ImplItem::Type(item) => is_shown(&item.attrs),
        _ => panic!("a member of an impl that the list does not know"),
    }
}

pub(crate) fn impl_item(item: &ImplItem) -> Option<Line> {
    match item {
        ImplItem::Fn(item) => line(&item.attrs, &format!("pub {}", signature(&item.sig, &item.sig.ident.to_string()))),
        ImplItem::Const(item) => line(&item.attrs, &format!("pub const {}: {}", item.ident, text::of(&item.ty))),
        ImplItem::Type(item) => line(&item.attrs, &format!("type {} = {}", item.ident, text::of(&item.ty))),
        _ => None,
    }
}

//! What attributes say of an item.

use std::collections::BTreeSet;

use quote::ToTokens;
use syn::{Attribute, Item, Meta, TraitItem};

use crate::text;

/// The conditions under which something is compiled.
pub(crate) type Gates = BTreeSet<String>;

/// Conditions under which only this crate's own tests and documents are built.
const OWN: [&str; 4] = ["test", "doc", "doctest", "docsrs"];

/// What the list shows of an item besides its signature.
const SHOWN: [&str; 4] = ["async_trait", "deprecated", "non_exhaustive", "repr"];

/// The conditions that these attributes name; `None` if it is not there for users.
pub(crate) fn gates(attributes: &[Attribute]) -> Option<Gates> {
    let mut gates = Gates::new();
    for attribute in attributes.iter().filter(|attribute| attribute.path().is_ident("cfg")) {
        let Meta::List(list) = &attribute.meta else { panic!("a cfg of what?") };
        let condition = text::of(&list.tokens).replace("feature = ", "").replace('"', "");
        if OWN.contains(&condition.as_str()) {
            return None;
        }
        gates.insert(condition);
    }
    Some(gates)
}

/// Whether documents leave it out.
pub(crate) fn is_hidden(attributes: &[Attribute]) -> bool {
    attributes.iter().any(|attribute| {
        attribute.path().is_ident("doc")
            && matches!(&attribute.meta, Meta::List(list) if list.tokens.to_string() == "hidden")
    })
}

/// The attributes that change what users can do, in front of what has them.
pub(crate) fn shown(attributes: &[Attribute]) -> String {
    let shown = attributes.iter().filter(|attribute| SHOWN.iter().any(|name| attribute.path().is_ident(name)));
    shown.map(|attribute| format!("#[{}] ", text::of(&attribute.meta))).collect()
}

/// The traits that it derives.
pub(crate) fn derives(attributes: &[Attribute]) -> BTreeSet<String> {
    let derives = attributes.iter().filter(|attribute| attribute.path().is_ident("derive"));
    let names = derives.flat_map(|attribute| match &attribute.meta {
        Meta::List(list) => text::of(&list.tokens).split(',').map(|name| name.trim().to_owned()).collect(),
        _ => Vec::new(),
    });
    names.filter(|name| !name.is_empty()).collect()
}

/// Refuses what would be on the list under a condition only.
pub(crate) fn check(attributes: &[Attribute], of: &str) {
    for attribute in attributes.iter().filter(|attribute| attribute.path().is_ident("cfg_attr")) {
        let tokens = attribute.to_token_stream().to_string();
        let is_seen = ["derive", "hidden", "macro_export", "path"]
            .iter()
            .chain(&SHOWN)
            .any(|name| tokens.split(|c: char| !c.is_alphanumeric() && c != '_').any(|word| word == *name));
        assert!(!is_seen || tokens.contains("doc ="), "{of}: the list can't show what is behind a cfg_attr: {tokens}");
    }
    let path = attributes.iter().any(|attribute| attribute.path().is_ident("path"));
    assert!(!path, "{of}: the list does not follow #[path]");
}

/// The attributes of an item.
///
/// # Panics
///
/// If it is of a kind that is not known.
pub fn of_item(item: &Item) -> &[Attribute] {
    match item {
        Item::Const(item) => &item.attrs,
        Item::Enum(item) => &item.attrs,
        Item::ExternCrate(item) => &item.attrs,
        Item::Fn(item) => &item.attrs,
        Item::ForeignMod(item) => &item.attrs,
        Item::Impl(item) => &item.attrs,
        Item::Macro(item) => &item.attrs,
        Item::Mod(item) => &item.attrs,
        Item::Static(item) => &item.attrs,
        Item::Struct(item) => &item.attrs,
        Item::Trait(item) => &item.attrs,
        Item::TraitAlias(item) => &item.attrs,
        Item::Type(item) => &item.attrs,
        Item::Union(item) => &item.attrs,
        Item::Use(item) => &item.attrs,
        other => panic!("an item that is not known: {}", other.to_token_stream()),
    }
}

pub(crate) fn of_trait_item(item: &TraitItem) -> &[Attribute] {
    match item {
        TraitItem::Const(item) => &item.attrs,
        TraitItem::Fn(item) => &item.attrs,
        TraitItem::Type(item) => &item.attrs,
        other => panic!("a member of a trait that is not known: {}", other.to_token_stream()),
    }
}

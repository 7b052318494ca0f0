//! Paths in what a macro gets or stands for, which is no code yet.

use proc_macro2::{Delimiter, Group, Ident, TokenStream, TokenTree};
use syn::ItemUse;

/// In the place of `$crate`.
pub(crate) const OF_A_MACRO: &str = "dollar_crate";

/// What stands in tokens.
#[derive(Default)]
pub(crate) struct Found {
    /// Each path of more than one name, its names in order.
    pub(crate) paths: Vec<Vec<String>>,
    pub(crate) imports: Vec<ItemUse>,
    /// The name of each method that is called, and how many arguments it gets.
    pub(crate) calls: Vec<(String, usize)>,
    /// Each name on its own, keywords too.
    pub(crate) words: Vec<String>,
    /// What can't be read.
    pub(crate) refused: Vec<String>,
}

pub(crate) fn find(tokens: TokenStream) -> Found {
    let mut found = Found::default();
    look(&plain(tokens), &mut found);
    found
}

/// Without the `$` of a macro's parameters.
fn plain(tokens: TokenStream) -> Vec<TokenTree> {
    let mut plain_ones = Vec::new();
    let mut is_parameter = false;
    for token in tokens {
        let was_parameter = std::mem::replace(&mut is_parameter, is(&token, '$'));
        match token {
            TokenTree::Punct(_) if is_parameter => {}
            TokenTree::Ident(name) if was_parameter && name == "crate" => {
                plain_ones.push(Ident::new(OF_A_MACRO, name.span()).into());
            }
            TokenTree::Group(group) => {
                let inner = plain(group.stream()).into_iter().collect();
                plain_ones.push(Group::new(group.delimiter(), inner).into());
            }
            other => plain_ones.push(other),
        }
    }
    plain_ones
}

fn is(token: &TokenTree, sign: char) -> bool {
    matches!(token, TokenTree::Punct(punct) if punct.as_char() == sign)
}

fn name(token: Option<&TokenTree>) -> Option<String> {
    match token? {
        TokenTree::Ident(name) => Some(name.to_string().trim_start_matches("r#").to_owned()),
        _ => None,
    }
}

/// Whether `::` stands here.
fn colons(tokens: &[TokenTree]) -> bool {
    matches!(tokens, [one, two, ..] if is(one, ':') && is(two, ':'))
}

fn look(tokens: &[TokenTree], found: &mut Found) {
    let mut at = 0;
    while at < tokens.len() {
        let rest = &tokens[at..];
        if let Some(end) = import(rest) {
            let statement: TokenStream = rest[..=end].iter().cloned().collect();
            match syn::parse2(statement.clone()) {
                Ok(import) => found.imports.push(import),
                Err(_) => found.refused.push(format!("`{statement}` in a macro")),
            }
            at += end + 1;
            continue;
        }
        match &rest[0] {
            TokenTree::Group(group) => {
                let inner: Vec<_> = group.stream().into_iter().collect();
                // `pub(in path)` only says who may see it.
                if !(group.delimiter() == Delimiter::Parenthesis
                    && name(inner.first()).is_some_and(|name| name == "in"))
                {
                    look(&inner, found);
                }
                at += 1;
            }
            TokenTree::Ident(_) => at += path(tokens, at, found),
            // Attributes have paths in strings.
            TokenTree::Literal(text) => {
                let text = text.to_string();
                if let Some(Ok(path)) = text.strip_prefix('"').and_then(|text| text.strip_suffix('"')).map(str::parse) {
                    look(&plain(path), found);
                }
                at += 1;
            }
            TokenTree::Punct(_) => at += 1,
        }
    }
}

/// Where the import ends that begins here, if one does.
fn import(tokens: &[TokenTree]) -> Option<usize> {
    name(tokens.first()).filter(|name| name == "use")?;
    tokens.iter().position(|token| is(token, ';'))
}

/// Takes the names of the path that begins here; how many tokens that are.
fn path(tokens: &[TokenTree], start: usize, found: &mut Found) -> usize {
    let mut names: Vec<String> = name(tokens.get(start)).into_iter().collect();
    let mut at = start + 1;
    while let (true, Some(next)) = (colons(&tokens[at..]), name(tokens.get(at + 2))) {
        names.push(next);
        at += 3;
    }
    found.words.extend(names.iter().cloned());
    let before = &tokens[..start];
    match tokens.get(at) {
        Some(TokenTree::Group(group)) if before.last().is_some_and(|token| is(token, '.')) => {
            found.calls.push((names[0].clone(), arguments(group)));
        }
        _ => {}
    }
    if before.len() > 1 && colons(&before[before.len() - 2..]) {
        names.insert(0, crate::resolve::ELSEWHERE.to_owned());
    }
    if names.len() > 1 {
        found.paths.push(names);
    }
    at - start
}

fn arguments(group: &Group) -> usize {
    let tokens: Vec<_> = group.stream().into_iter().collect();
    tokens.split(|token| is(token, ',')).filter(|argument| !argument.is_empty()).count()
}

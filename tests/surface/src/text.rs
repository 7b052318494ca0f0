//! Code as one line of text.

use proc_macro2::{Delimiter, Spacing, TokenStream, TokenTree};
use quote::ToTokens;

/// The code, spaced as rustfmt would, without the comma behind the last of a list.
pub(crate) fn of(code: &impl ToTokens) -> String {
    let mut words = Vec::new();
    flatten(code.to_token_stream(), &mut words);
    let mut text = String::new();
    for (at, word) in words.iter().enumerate() {
        let next = words.get(at + 1).map(String::as_str);
        if word == "," && matches!(next, None | Some(")" | ">" | "}")) {
            continue;
        }
        if at > 0 && is_apart(&words[at - 1], word) {
            text.push(' ');
        }
        text.push_str(word);
    }
    text
}

fn flatten(tokens: TokenStream, words: &mut Vec<String>) {
    let mut is_joint = false;
    for token in tokens {
        let text = match token {
            TokenTree::Group(group) => {
                let (open, close) = match group.delimiter() {
                    Delimiter::Parenthesis => ("(", ")"),
                    Delimiter::Bracket => ("[", "]"),
                    Delimiter::Brace => ("{", "}"),
                    Delimiter::None => ("", ""),
                };
                words.push(open.to_owned());
                flatten(group.stream(), words);
                words.push(close.to_owned());
                is_joint = false;
                continue;
            }
            other => other,
        };
        let joint = matches!(&text, TokenTree::Punct(punct) if punct.spacing() == Spacing::Joint);
        match words.last_mut() {
            Some(last) if is_joint => last.push_str(&text.to_string()),
            _ => words.push(text.to_string()),
        }
        is_joint = joint;
    }
}

/// Whether a blank stands between two words.
fn is_apart(before: &str, word: &str) -> bool {
    let is_name = |word: &str| word.ends_with(|c: char| c.is_alphanumeric() || c == '_');
    let is_keyword = ["where", "as", "in", "dyn", "mut", "const", "else"].contains(&before);
    match (before, word) {
        ("(" | "[" | "<" | "&" | "::" | "!" | "?" | "#" | "", _) => false,
        (_, "," | ";" | ">" | ")" | "]" | ":" | "::" | "") => false,
        ("for" | "impl" | "Fn" | "FnMut" | "FnOnce", "<") => false,
        (_, "(" | "<") => !is_name(before) && before != ">" || is_keyword,
        _ => true,
    }
}

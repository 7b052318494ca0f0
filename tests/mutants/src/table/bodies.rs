//! Which bodies are the same: by what JSON means, and by the parts of a form.

use super::Mutant;

planted_under!(corpus, "--lib", "corpus");
planted_under!(http, "--test http", "bodies_apart");
planted_under!(unit, "--lib");

const JSON: &str = "src/core/json.rs";
const NUMBER: &str = "src/core/number.rs";
const SAME_MEANING: &str = "two_bodies_of_json_are_the_same_if_they_mean_the_same";

pub(super) const MUTANTS: &[Mutant] = &[
    corpus(
        "two-members-of-one-name-mean-something",
        JSON,
        "pair[0].name(written) == pair[1].name(written)",
        "pair[0].name(written) > pair[1].name(written)",
        SAME_MEANING,
    ),
    corpus(
        "order-of-members-counts",
        JSON,
        "        self.written.truncate(begin);\n",
        "        return Some(());\n",
        SAME_MEANING,
    ),
    corpus(
        "members-lose-their-names",
        JSON,
        "&written[member.begin..member.end]",
        "&written[member.name_end..member.end]",
        SAME_MEANING,
    ),
    corpus(
        "a-text-may-go-on-behind-its-end",
        JSON,
        "writer.next().is_none().then_some(writer.written)",
        "Some(writer.written)",
        SAME_MEANING,
    ),
    corpus("any-depth-has-a-meaning", JSON, "const DEEPEST: usize = 128;", "const DEEPEST: usize = 129;", SAME_MEANING),
    corpus(
        "control-characters-are-text",
        JSON,
        "                _ => return None,\n            }\n",
        "                _ => self.at -= 1,\n            }\n",
        SAME_MEANING,
    ),
    corpus("numbers-lose-their-sign", NUMBER, "written.push(b'-');", "", SAME_MEANING),
    corpus("numbers-begin-with-any-zeros", NUMBER, "whole.len() > 1 && whole[0] == b'0'", "false", SAME_MEANING),
    corpus("a-point-may-move", NUMBER, "- self.fraction.len() as i128", "", SAME_MEANING),
    corpus(
        "a-list-loses-the-place-of-what-is-left-out",
        "src/http/fingerprint/member.rs",
        "json.splice(value, [LEFT_OUT]);",
        "json.drain(value);",
        SAME_MEANING,
    ),
    unit(
        "members-are-in-the-order-of-their-bytes",
        JSON,
        "*byte == b'\\\\' || *byte >= 0xee",
        "*byte == b'\\\\'",
        "core::canonical::tests::members_have_one_order",
    ),
    corpus(
        "another-boundary-goes-unseen",
        "src/http/fingerprint/media_type.rs",
        "parameter.to_ascii_lowercase().contains(\"boundary\")",
        "name == \"boundary\"",
        "two_multipart_bodies",
    ),
    corpus(
        "a-boundary-may-be-in-a-part",
        "src/http/fingerprint/multipart.rs",
        "!pieces.iter().any(is_within)",
        "(!pieces.iter().any(is_within) || pieces.len() > 2)",
        "two_multipart_bodies",
    ),
    http(
        "a-second-type-or-a-coding-goes-unseen",
        "src/http/fingerprint/form.rs",
        "_ if !is_said_by_one_type(&parts.headers) => None,",
        "_ if !is_said_by_one_type(&parts.headers) && line.is_empty() => None,",
        "a_",
    ),
];

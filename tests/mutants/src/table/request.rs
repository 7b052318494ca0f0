//! What of a request counts, and what of it is kept.

use super::Mutant;

const FINGERPRINT: &str = "src/core/fingerprint.rs";
const TARGET: &str = "src/target.rs";

planted_under!(http, "--test http");

pub(super) const MUTANTS: &[Mutant] = &[
    http(
        "authority-forgotten",
        TARGET,
        "plain.unwrap_or(host)",
        "&plain.unwrap_or(host)[..0]",
        "fingerprint::another_authority",
    ),
    http(
        "host-before-the-target",
        TARGET,
        "named.map_or_else(|| host.unwrap_or_default(), str::as_bytes)",
        "host.unwrap_or_else(|| named.unwrap_or_default().as_bytes())",
        "fingerprint::one_authority",
    ),
    http(
        "further-content-types-forgotten",
        TARGET,
        "lines.has_more |= lines.content_type.is_some();",
        "",
        "fingerprint::every_content_type",
    ),
    http(
        "records-of-the-release-before-refused",
        FINGERPRINT,
        "self.added.zip(other.added).is_none_or(",
        "self.added.zip(other.added).is_some_and(",
        "fingerprint::a_record_of_the_release_before",
    ),
    http(
        "switched-processes-refuse-each-other",
        FINGERPRINT,
        "self.authority.zip(other.authority).is_none_or(",
        "self.authority.zip(other.authority).is_some_and(",
        "fingerprint::processes_with_different_switches",
    ),
];

//! The page for operators.

use super::Mutant;

const DECIDE: &str = "src/operator/inspector/decide.rs";
const FORGERY: &str = "src/operator/inspector/forgery.rs";
const MOD: &str = "src/operator/inspector/mod.rs";
const OVERVIEW: &str = "src/operator/inspector/overview.rs";
const VISIT: &str = "src/operator/inspector/visit.rs";

planted_under!(inspector, "--test workers", "inspector");

pub(super) const MUTANTS: &[Mutant] = &[
    inspector(
        "inspector-takes-a-form-without-a-token",
        DECIDE,
        "    visit.check(form)?;\n",
        "",
        "a_forged_form_changes_nothing",
    ),
    inspector(
        "inspector-takes-the-token-of-another-person",
        FORGERY,
        "mac.update(who.as_bytes());",
        "mac.update(who[..0].as_bytes());",
        "a_forged_form_changes_nothing",
    ),
    inspector(
        "inspector-takes-the-form-of-another-site",
        FORGERY,
        "is_of_this_site(parts) && token.zip(secret)",
        "token.zip(secret)",
        "a_forged_form_changes_nothing",
    ),
    inspector(
        "inspector-decides-about-what-was-not-shown",
        DECIDE,
        "if form.get(\"version\") != Some(&version(&shown)) {",
        "if false {",
        "a_stale_decision_changes_nothing",
    ),
    inspector(
        "inspector-lets-those-decide-who-only-look",
        DECIDE,
        "    if !visit.who.decides() {\n        return Err(Refused::MAY_NOT);\n    }\n    visit.check(form)?;",
        "    visit.check(form)?;",
        "those_who_only_look_decide_nothing",
    ),
    inspector(
        "inspector-shows-what-a-person-may-not-see",
        VISIT,
        "self.who.may_see(&shown).then_some(shown)",
        "Some(shown)",
        "what_a_person_may_not_see_does_not_exist",
    ),
    inspector(
        "inspector-counts-what-a-person-may-not-see",
        OVERVIEW,
        "if visit.who.sees_all() {",
        "if true {",
        "what_a_person_may_not_see_does_not_exist",
    ),
    inspector(
        "inspector-lets-in-whom-it-was-told-to-deny",
        MOD,
        "Err(reason) => return denied(reason),",
        "Err(_) => Who::named(\"guest\"),",
        "a_request_that_is_denied_learns_nothing",
    ),
    inspector(
        "inspector-believes-a-form-about-who-decides",
        DECIDE,
        "choice.act(form, why)?.carry_out(&visit.operator.because(why), &shown)",
        "choice.act(form, why)?.carry_out(&visit.operator.by(form.get(\"by\").unwrap_or_default()).because(why), &shown)",
        "who_decides_is_who_is_let_in",
    ),
];

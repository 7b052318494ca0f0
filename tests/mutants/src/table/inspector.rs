//! The page for operators.

use super::Mutant;

const DECIDE: &str = "src/operator/inspector/decide.rs";
const FORGERY: &str = "src/operator/inspector/forgery.rs";
const MAINTENANCE: &str = "src/operator/inspector/maintenance.rs";
const MOD: &str = "src/operator/inspector/mod.rs";
const OVERVIEW: &str = "src/operator/inspector/overview.rs";
const VISIT: &str = "src/operator/inspector/visit.rs";

planted_under!(inspector, "--test workers");

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
        "inspector-changes-a-window-that-was-not-shown",
        MAINTENANCE,
        "if form.get(\"seen\") != Some(&seen(planned)) {",
        "if false {",
        "a_window_that_changed_meanwhile_stays",
    ),
    inspector(
        "inspector-lets-those-plan-who-may-not",
        MAINTENANCE,
        "    if !visit.who.plans() {\n        return Err(Refused::MAY_NOT_PLAN);\n    }\n    visit.check(form)?;",
        "    visit.check(form)?;",
        "those_who_may_not_plan_change_no_window",
    ),
    inspector(
        "inspector-believes-a-form-about-who-decides",
        DECIDE,
        "choice.act(form, why)?.carry_out(&visit.operator.because(why), &shown)",
        "choice.act(form, why)?.carry_out(&visit.operator.by(form.get(\"by\").unwrap_or_default()).because(why), &shown)",
        "who_decides_is_who_is_let_in",
    ),
    inspector(
        "inspector-tells-where-those-of-others-lie",
        VISIT,
        "if self.who.sees_all() { Some(next.to_string()) }",
        "if self.who.sees_all() || !self.who.name().is_empty() { Some(next.to_string()) }",
        "where_a_list_goes_on",
    ),
    inspector(
        "inspector-lets-others-hide-their-own",
        VISIT,
        "for _ in 0..STEPS {",
        "for _ in 0..STEPS.min(1) {",
        "their_own_does_not_hide",
    ),
    inspector(
        "inspector-tells-that-another-record-is-there",
        VISIT,
        "if error.is_unreadable() && !self.who.sees_all() =>",
        "if error.is_locked() && !self.who.sees_all() =>",
        "what_of_others_cannot_be_read",
    ),
    inspector(
        "inspector-calls-well-what-it-did-not-look-at",
        OVERVIEW,
        "(0, None) if capped => {",
        "(0, None) if capped && many > 0 => {",
        "the_verdict_covers",
    ),
];

//! Stores that never wait.

use super::Mutant;

const END: &str = "src/engine/attempt/outcome.rs";
const LEDGER: &str = "src/engine/ledger/mod.rs";
const TURN: &str = "src/engine/attempt/turn.rs";
const WRITER: &str = "src/engine/attempt/writer.rs";

planted_under!(immediate, "--test engine", "immediate");

pub(super) const MUTANTS: &[Mutant] = &[
    immediate(
        "a-lost-claim-writes-at-once",
        WRITER,
        "Some(self.settle(exchange.outcome(), &mut current))",
        "Some(exchange.finish().map(drop).ok_or(WriteError::Lost))",
        "a_step_of_a_lost_claim",
    ),
    immediate(
        "what-is-written-at-once-leaves-labels-behind",
        WRITER,
        "if !lock(&self.writer.queue).is_empty() {",
        "if false {",
        "a_label_goes",
    ),
    immediate(
        "a-step-at-once-is-not-stored",
        WRITER,
        "let changes = changes.iter().flatten().cloned().collect();",
        "let changes = changes.iter().flatten().skip(1).cloned().collect();",
        "steps_of_many_tasks",
    ),
    immediate(
        "a-ciphertext-at-once-is-a-record",
        LEDGER,
        "Swap::Conflict(found) if is_sealed(&found) =>",
        "Swap::Conflict(found) if is_sealed(&found) && false =>",
        "what_is_encrypted",
    ),
    immediate(
        "what-never-waits-keeps-its-thread",
        TURN,
        "    consume_budget().await;",
        "    let _ = consume_budget;",
        "what_never_waits_leaves_turns_for_others",
    ),
    immediate(
        "what-ends-at-once-keeps-its-thread",
        END,
        "            leave_a_turn().await;\n",
        "            let _ = leave_a_turn;\n",
        "what_never_waits_leaves_turns_for_others",
    ),
];

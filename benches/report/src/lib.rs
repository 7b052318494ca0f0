//! What a run of `benches/compare` keeps as JSON, and the tables and charts made of it.
//!
//! A package of its own, so that its tests build nothing that is compared with.

mod chart;
mod goals;
mod plan;
mod run;
mod table;

pub use self::chart::chart;
pub use self::plan::{ROWS, Row, SCENARIOS, Scenario};
pub use self::run::{Fact, Run, Sample, Setting};
pub use self::table::{replaced, report, summary};

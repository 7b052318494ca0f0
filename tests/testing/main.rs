//! What helps to test handlers: that it does what it says, and the stories of the guide.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that panics has failed")]

mod crashes;
mod replays;
mod stories;

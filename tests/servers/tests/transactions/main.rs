//! Rows and recovery points commit together, on real servers, with both
//! drivers.

mod doubt;
#[path = "../../../support/enlisted/mod.rs"]
mod enlisted;
mod isolation;
mod moved;
mod pools;
mod shop;
mod together;
mod unknown;

/// A test for each driver.
macro_rules! with_both_drivers {
    ($($case:ident)*) => {
        mod tokio_postgres {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $case() {
                super::$case::<crate::shop::Tokio>().await;
            })*
        }
        mod sqlx {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $case() {
                super::$case::<crate::shop::Sqlx>().await;
            })*
        }
    };
}
pub(crate) use with_both_drivers;

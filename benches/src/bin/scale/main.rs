//! What a million records cost: claims and replays beside those of a thousand, a sweep, the completer's poll, and two
//! instances on one server.
//!
//! ```text
//! cargo run --release -p tower-idempotency-benches --bin scale -- --records 1000000 --out target/bench/scale.json
//! ```
//!
//! `--stores memory,sqlite,redis,postgres` chooses; `--rounds N` says how often what is compared takes turns, and
//! `--unfinished N` how many records wait for the completer. Requests go through the layer, in process, over each store
//! with connections of its own. CPU is that of this process with that of the store's server (Linux). Postgres takes some
//! 2 GB of disk, and memory as much of that, until the run is over.

mod bed;
mod grow;
mod load;
mod poll;
mod report;
mod sweep;
mod two;

use tower_idempotency_benches::argument;

use self::bed::{Bed, STORES};
use self::report::Report;

/// How much is measured.
#[derive(Clone, Copy)]
struct Size {
    records: usize,
    few: usize,
    unfinished: usize,
    rounds: usize,
}

#[tokio::main]
async fn main() {
    let size = Size {
        records: argument("--records", 1_000_000),
        few: argument("--few", 1000),
        unfinished: argument("--unfinished", 100_000),
        rounds: argument("--rounds", 9),
    };
    let stores = argument("--stores", STORES.join(","));
    let out: String = argument("--out", String::new());
    let mut report = Report::new(size.records);
    for name in stores.split(',') {
        let bed = Bed::start(name).await;
        grow::measure(&bed, size, &mut report).await;
        two::measure(&bed, size, &mut report).await;
        sweep::measure(&bed, size, &mut report).await;
        poll::measure(&bed, size, &mut report).await;
        if !out.is_empty() {
            report.save(out.as_ref());
        }
    }
    print!("{}", report.table());
}

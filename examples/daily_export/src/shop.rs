//! The shop's database, with what was sold. It knows nothing of schedules.

use std::path::Path;
use std::time::Duration;

use rusqlite::{Connection, Error, TransactionBehavior};
use serde::{Deserialize, Serialize};
use tower_idempotency::core::Timestamp;

/// A row of the table, and of the CSV file.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Sale {
    id: i64,
    sold_at: String,
    item: String,
    cents: i64,
}

/// The table, and what is in it at first.
const TABLE: &str = "
    CREATE TABLE IF NOT EXISTS sales (
        id INTEGER PRIMARY KEY, sold_at TEXT NOT NULL, item TEXT NOT NULL, cents INTEGER NOT NULL
    );
    INSERT INTO sales (sold_at, item, cents)
    SELECT column1, column2, column3 FROM (VALUES
        ('2026-01-05T09:12:44Z', 'lamp', 4900),
        ('2026-01-05T10:30:02Z', 'chair, red', 12900),
        ('2026-01-06T16:01:10Z', 'table', 49900))
    WHERE NOT EXISTS (SELECT 1 FROM sales);
";

/// Makes the database if it is missing. Several processes may do so at once.
pub(crate) fn create(path: &Path) -> Result<(), Error> {
    let mut shop = open(path)?;
    let transaction = shop.transaction_with_behavior(TransactionBehavior::Immediate)?;
    transaction.execute_batch(TABLE)?;
    transaction.commit()
}

/// What was sold before this time.
pub(crate) fn sold_before(path: &Path, time: Timestamp) -> Result<Vec<Sale>, Error> {
    let shop = open(path)?;
    let seconds = i64::try_from(time.as_millis() / 1000).unwrap_or(i64::MAX);
    let mut rows =
        shop.prepare("SELECT id, sold_at, item, cents FROM sales WHERE unixepoch(sold_at) < ?1 ORDER BY id")?;
    let sales = rows.query_map([seconds], |row| {
        Ok(Sale { id: row.get(0)?, sold_at: row.get(1)?, item: row.get(2)?, cents: row.get(3)? })
    })?;
    sales.collect()
}

fn open(path: &Path) -> Result<Connection, Error> {
    let shop = Connection::open(path)?;
    shop.busy_timeout(Duration::from_secs(5))?;
    Ok(shop)
}

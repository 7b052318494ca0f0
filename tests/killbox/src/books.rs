//! The payment gateway of the service that runs in the background: another
//! company's, which knows nothing of idempotency records.

use std::fs::OpenOptions;
use std::io::{self, Read, Write};
use std::path::PathBuf;

use serde_json::{Value, json};

/// What it did, line by line. All processes that name the same file share it.
#[derive(Clone, Debug)]
pub struct Books(PathBuf);

impl Books {
    /// Kept in this file.
    pub fn new(path: PathBuf) -> Self {
        Self(path)
    }

    /// Charges once per key, and writes down each time it is asked. The id of
    /// the charge.
    pub async fn charge(&self, key: String, order: String, amount: u64) -> io::Result<String> {
        let books = self.clone();
        tokio::task::spawn_blocking(move || books.charge_now(&key, &order, amount)).await?
    }

    fn charge_now(&self, key: &str, order: &str, amount: u64) -> io::Result<String> {
        let mut log = OpenOptions::new().read(true).append(true).create(true).open(&self.0)?;
        log.lock()?;
        let mut text = String::new();
        log.read_to_string(&mut text)?;
        // Half a line was never acknowledged.
        let whole = text.rfind('\n').map_or(0, |end| end + 1);
        log.set_len(whole as u64)?;

        let known = text[..whole].lines().find_map(|line| {
            let charge = serde_json::from_str::<Value>(line).ok()?.get("charge")?.clone();
            (charge["key"] == key).then(|| charge["id"].as_str().map(str::to_owned))?
        });
        let mut lines = format!("{}\n", json!({ "asked": order }));
        let id = known.unwrap_or_else(|| {
            let id = format!("ch_{:016x}", fastrand::u64(..));
            let charge = json!({ "id": id, "key": key, "order": order, "amount": amount });
            lines.push_str(&format!("{}\n", json!({ "charge": charge })));
            id
        });
        log.write_all(lines.as_bytes())?;
        Ok(id)
    }
}

//! The payment gateway: stands for another company's system, which is why it
//! keeps its own log and knows nothing of this crate.
//!
//! It honours idempotency keys, as gateways do. That closes the last gap: after a
//! process dies between the charge and the record of it, the next attempt asks
//! again with the same key, and gets the same charge. All processes that
//! name the same log share one gateway.

use std::collections::HashMap;
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use serde::{Deserialize, Serialize};

use crate::demo::{Demo, Point};

/// What is asked of the gateway.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ChargeRequest {
    /// Our own reference, for looking the charge up.
    pub(crate) payment_id: String,
    pub(crate) order: String,
    pub(crate) amount: u64,
    pub(crate) currency: String,
}

/// What it did.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Charge {
    pub(crate) id: String,
    key: String,
    #[serde(flatten)]
    pub(crate) request: ChargeRequest,
}

/// Serialisable because a final one is stored as the result of its step.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum GatewayError {
    Declined,
    /// The key was used for another charge.
    KeyReused,
    /// The connection was refused: it can't have charged.
    Unreachable,
    /// The charge may or may not have happened.
    Failed(String),
}

impl GatewayError {
    /// Whether asking again with this key would give the same.
    pub(crate) fn is_final(&self) -> bool {
        matches!(self, Self::Declined | Self::KeyReused)
    }
}

/// What it did so far.
#[derive(Serialize)]
pub(crate) struct Report {
    count: usize,
    charges: Vec<Charge>,
    receipts: usize,
}

/// A line of its log.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Line {
    Charge(Charge),
    /// A receipt went out for the charge of this id.
    Receipt(String),
}

#[derive(Clone)]
pub(crate) struct Gateway {
    books: Arc<Mutex<Books>>,
}

struct Books {
    log: File,
    /// How much of the log is in the books.
    read: u64,
    charges: Vec<Charge>,
    /// Where in `charges`, by the key it was asked with.
    by_key: HashMap<String, usize>,
    receipts: Vec<String>,
}

impl Gateway {
    /// Opens its log, and reads what it did in earlier lives.
    pub(crate) fn open(path: &Path) -> io::Result<Self> {
        let log = OpenOptions::new().read(true).append(true).create(true).open(path)?;
        let mut books = Books { log, read: 0, charges: Vec::new(), by_key: HashMap::new(), receipts: Vec::new() };
        books.locked(|_| Ok(()))?;
        Ok(Self { books: Arc::new(Mutex::new(books)) })
    }

    /// Charges once per key, however often the service asks.
    pub(crate) async fn charge(&self, key: String, request: ChargeRequest, demo: Demo) -> Result<Charge, GatewayError> {
        match demo {
            Demo::Decline => return Err(GatewayError::Declined),
            Demo::GatewayDown => return Err(GatewayError::Unreachable),
            _ => {}
        }
        demo.reached(Point::BeforeCharge).await;
        let charge = self.with_books(move |books| books.charge(key, request)).await??;
        // The gateway has charged, and we have not read its response.
        demo.reached(Point::AfterCharge).await;
        Ok(charge)
    }

    /// Sends a receipt at each call: this part of the gateway knows no keys.
    pub(crate) async fn send_receipt(&self, charge_id: &str) -> Result<(), GatewayError> {
        let line = Line::Receipt(charge_id.to_owned());
        self.with_books(move |books| books.append(line)).await
    }

    /// Whether a receipt was sent.
    pub(crate) async fn has_receipt(&self, charge_id: &str) -> Result<bool, GatewayError> {
        let id = charge_id.to_owned();
        self.with_books(move |books| Ok(books.receipts.contains(&id))).await
    }

    /// The charge with this reference of ours.
    pub(crate) async fn find(&self, payment_id: String) -> Result<Option<Charge>, GatewayError> {
        let is_it = move |charge: &&Charge| charge.request.payment_id == payment_id;
        self.with_books(move |books| Ok(books.charges.iter().find(is_it).cloned())).await
    }

    /// Everything it did.
    pub(crate) async fn report(&self) -> Result<Report, GatewayError> {
        let report = |books: &mut Books| Report {
            count: books.charges.len(),
            charges: books.charges.clone(),
            receipts: books.receipts.len(),
        };
        self.with_books(move |books| Ok(report(books))).await
    }

    /// On a thread that may block: the log is a file.
    async fn with_books<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Books) -> io::Result<T> + Send + 'static,
    ) -> Result<T, GatewayError> {
        let books = Arc::clone(&self.books);
        let work = move || books.lock().unwrap_or_else(PoisonError::into_inner).locked(work);
        let done = tokio::task::spawn_blocking(work).await.map_err(io::Error::other).flatten();
        done.map_err(|error| GatewayError::Failed(format!("it can't use its log: {error}")))
    }
}

impl Books {
    /// While no other process uses the log, and knowing all that is in it.
    fn locked<T>(&mut self, work: impl FnOnce(&mut Self) -> io::Result<T>) -> io::Result<T> {
        self.log.lock()?;
        let done = self.catch_up().and_then(|()| work(self));
        self.log.unlock()?;
        done
    }

    fn catch_up(&mut self) -> io::Result<()> {
        let mut bytes = Vec::new();
        self.log.seek(SeekFrom::Start(self.read))?;
        self.log.read_to_end(&mut bytes)?;
        // A line without its end was never acknowledged: it was not charged.
        let whole = bytes.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
        for line in bytes[..whole].split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
            self.enter(serde_json::from_slice(line).map_err(|_| io::Error::other("not a gateway log"))?);
        }
        self.read += whole as u64;
        if whole < bytes.len() {
            self.log.set_len(self.read)?;
        }
        Ok(())
    }

    fn charge(&mut self, key: String, request: ChargeRequest) -> io::Result<Result<Charge, GatewayError>> {
        if let Some(known) = self.by_key.get(&key).map(|at| &self.charges[*at]) {
            if known.request != request {
                return Ok(Err(GatewayError::KeyReused));
            }
            crate::say(&known.id, "seen this key before: the same charge, not a second one");
            return Ok(Ok(known.clone()));
        }
        let charge = Charge { id: format!("ch_{:016x}", fastrand::u64(..)), key, request };
        self.append(Line::Charge(charge.clone()))?;
        let ChargeRequest { order, amount, currency, .. } = &charge.request;
        crate::say(&charge.id, &format!("CHARGED {}.{:02} {currency} for order {order}", amount / 100, amount % 100));
        Ok(Ok(charge))
    }

    /// Flushes to disk before it returns.
    fn append(&mut self, line: Line) -> io::Result<()> {
        let mut bytes = serde_json::to_vec(&line)?;
        bytes.push(b'\n');
        let written = self.log.write_all(&bytes).and_then(|()| self.log.sync_data());
        // Half a line would make the next one unreadable.
        written.inspect_err(|_| drop(self.log.set_len(self.read)))?;
        self.read += bytes.len() as u64;
        self.enter(line);
        Ok(())
    }

    fn enter(&mut self, line: Line) {
        match line {
            Line::Charge(charge) => {
                self.by_key.insert(charge.key.clone(), self.charges.len());
                self.charges.push(charge);
            }
            Line::Receipt(charge_id) => self.receipts.push(charge_id),
        }
    }
}

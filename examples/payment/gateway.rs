//! The payment gateway: stands for another company's system, which is why it
//! keeps books of its own and knows nothing of this crate.
//!
//! It honours idempotency keys, as gateways do. That is what makes the last
//! gap closable: a process that dies between the charge and the record of it
//! asks again with the same key, and gets the same charge.

use std::collections::HashMap;
use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use serde::{Deserialize, Serialize};

use crate::demo::Demo;

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
    /// Anything may have happened.
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
    charges: Vec<Charge>,
    /// Where in `charges`, by the key it was asked with.
    by_key: HashMap<String, usize>,
    receipts: Vec<String>,
}

impl Gateway {
    /// Opens its log, and reads what it did in earlier lives.
    pub(crate) fn open(path: &Path) -> io::Result<Self> {
        let mut log = OpenOptions::new().read(true).append(true).create(true).open(path)?;
        log.try_lock().map_err(|error| match error {
            TryLockError::WouldBlock => io::Error::other("another process has it open"),
            TryLockError::Error(error) => error,
        })?;
        let mut bytes = Vec::new();
        log.read_to_end(&mut bytes)?;
        // A line without its end was never acknowledged: it was not charged.
        let whole = bytes.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
        let mut books = Books { log, charges: Vec::new(), by_key: HashMap::new(), receipts: Vec::new() };
        for line in bytes[..whole].split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
            books.enter(serde_json::from_slice(line).map_err(|_| io::Error::other("not a gateway log"))?);
        }
        if whole < bytes.len() {
            books.log.set_len(whole as u64)?;
        }
        Ok(Self { books: Arc::new(Mutex::new(books)) })
    }

    /// Charges once per key, however often it is asked.
    pub(crate) async fn charge(&self, key: String, request: ChargeRequest, demo: Demo) -> Result<Charge, GatewayError> {
        match demo {
            Demo::Decline => return Err(GatewayError::Declined),
            Demo::GatewayDown => return Err(GatewayError::Unreachable),
            Demo::Slow(pause) => tokio::time::sleep(pause).await,
            _ => {}
        }
        demo.crash_if(Demo::CrashBeforeCharge);
        let charge = self.with_books(move |books| books.charge(key, request)).await?;
        // It has charged, and we have not read its answer.
        demo.crash_if(Demo::CrashAfterCharge);
        Ok(charge)
    }

    /// Sends a receipt each time it is asked: this part of it knows no keys.
    pub(crate) async fn send_receipt(&self, charge_id: &str) -> Result<(), GatewayError> {
        let line = Line::Receipt(charge_id.to_owned());
        self.with_books(move |books| books.append(line)).await
    }

    /// Whether a receipt was sent.
    pub(crate) fn has_receipt(&self, charge_id: &str) -> bool {
        self.read(|books| books.receipts.iter().any(|id| id == charge_id))
    }

    /// The charge with this reference of ours.
    pub(crate) fn find(&self, payment_id: &str) -> Option<Charge> {
        self.read(|books| books.charges.iter().find(|charge| charge.request.payment_id == payment_id).cloned())
    }

    /// Everything it did.
    pub(crate) fn report(&self) -> Report {
        self.read(|books| Report {
            count: books.charges.len(),
            charges: books.charges.clone(),
            receipts: books.receipts.len(),
        })
    }

    fn read<T>(&self, read: impl FnOnce(&Books) -> T) -> T {
        read(&self.books.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// On a thread that may block: the log is a file.
    async fn with_books<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Books) -> Result<T, GatewayError> + Send + 'static,
    ) -> Result<T, GatewayError> {
        let books = Arc::clone(&self.books);
        let work = move || work(&mut books.lock().unwrap_or_else(PoisonError::into_inner));
        tokio::task::spawn_blocking(work).await.map_err(|error| GatewayError::Failed(error.to_string()))?
    }
}

impl Books {
    fn charge(&mut self, key: String, request: ChargeRequest) -> Result<Charge, GatewayError> {
        if let Some(known) = self.by_key.get(&key).map(|at| &self.charges[*at]) {
            if known.request != request {
                return Err(GatewayError::KeyReused);
            }
            crate::say(&known.id, "seen this key before: the same charge, not a second one");
            return Ok(known.clone());
        }
        let charge = Charge { id: format!("ch_{:016x}", fastrand::u64(..)), key, request };
        self.append(Line::Charge(charge.clone()))?;
        let ChargeRequest { order, amount, currency, .. } = &charge.request;
        crate::say(&charge.id, &format!("CHARGED {}.{:02} {currency} for order {order}", amount / 100, amount % 100));
        Ok(charge)
    }

    /// On disk before anyone is told.
    fn append(&mut self, line: Line) -> Result<(), GatewayError> {
        let write = |log: &mut File| -> io::Result<()> {
            let mut bytes = serde_json::to_vec(&line)?;
            bytes.push(b'\n');
            let end = log.seek(SeekFrom::End(0))?;
            let written = log.write_all(&bytes).and_then(|()| log.sync_data());
            // Half a line would make the next one unreadable.
            written.inspect_err(|_| drop(log.set_len(end)))
        };
        write(&mut self.log).map_err(|error| GatewayError::Failed(format!("it can't write its log: {error}")))?;
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

//! What the store survives, by its settings as they are.

use rusqlite::{Connection, Row};

use super::batch::{begin, pragma, roll_back};
use super::error::Fault;
use super::request::Mark;
use super::writer::Session;
use crate::store::contract::{Durability, DurabilityLevel, Epoch, StoreError};

/// As `PRAGMA synchronous` counts.
const FULL: i64 = 2;

impl Session<'_> {
    /// Reads the settings of the connection that writes.
    pub(super) fn durability(&mut self, mark: Mark) -> Result<Durability, StoreError> {
        self.shared.guard.check()?;
        let survives = survives(self.connection).map_err(|error| Fault::from(error).into_store_error())?;
        let epoch = match mark {
            Mark::Stays => self.connection.query_row(&self.shared.sql.last_epoch, [], epoch_of).map_err(Fault::from),
            Mark::Moves => self.move_the_mark().inspect_err(|_| {
                let _ = roll_back(self.connection);
            }),
        };
        let epoch = epoch.map_err(Fault::into_store_error)?;
        let mut warnings = self.shared.warnings.clone();
        let damaged = self.shared.buckets.damaged();
        if damaged > 0 {
            warnings.push(format!(
                "records are missing in {damaged} of 128 parts of the store, where no key is taken for a new one; restore \
                 it from a backup"
            ));
        }
        if survives < DurabilityLevel::PowerLoss {
            warnings.push("the library does not sync its log with every commit; link one that does".to_owned());
        }
        Ok(Durability { survives, epoch: Some(epoch), warnings })
    }

    fn move_the_mark(&mut self) -> Result<Epoch, Fault> {
        begin(&mut self.statements)?;
        let epoch = self.connection.query_row(&self.shared.sql.epoch, [], epoch_of)?;
        let commits = self.statements.count(self.shared.clock.now())?;
        self.statements.commit.execute([])?;
        self.shared.owner.mark(commits);
        Ok(epoch)
    }
}

fn epoch_of(row: &Row<'_>) -> rusqlite::Result<Epoch> {
    let (id, mark): (i64, i64) = (row.get(0)?, row.get(1)?);
    Ok(Epoch { id: id.cast_unsigned(), mark: mark.cast_unsigned() })
}

fn survives(connection: &Connection) -> rusqlite::Result<DurabilityLevel> {
    let journal: String = connection.query_row("PRAGMA journal_mode", [], |row| row.get(0))?;
    let synchronous = pragma(connection, "synchronous")?.unwrap_or_default();
    Ok(if journal == "wal" && synchronous >= FULL { DurabilityLevel::PowerLoss } else { DurabilityLevel::AppCrash })
}

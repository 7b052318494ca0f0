//! What the database survives, by its live settings.

use super::call::Connections;
use super::columns::Row;
use super::driver::Parameter;
use super::error::{not_ours, unavailable};
use super::row::{optional, required};
use super::sql::{LAYOUT, Sql};
use crate::store::contract::{Durability, DurabilityLevel, Epoch, StoreError, StoreErrorKind};
use crate::util::nonce::fresh_nonce;

const SETTINGS: &str = "SELECT pg_catalog.pg_is_in_recovery(), pg_catalog.current_setting('fsync'), pg_catalog.current_setting('full_page_writes'), \
     pg_catalog.current_setting('synchronous_commit'), pg_catalog.current_setting('synchronous_standby_names'), \
     (SELECT pg_catalog.count(*) FROM pg_catalog.pg_stat_replication)";

/// And moves the mark.
pub(super) async fn read(connections: &Connections, sql: &Sql) -> Result<Durability, StoreError> {
    let durability = inspected(connections, sql).await?;
    let id = fresh_nonce().get().cast_signed();
    let rows = connections.query(&sql.epoch, &[Parameter::Integer(id)]).await?;
    Ok(Durability { epoch: epoch_of(rows.first())?, ..durability })
}

/// And leaves the mark as it is.
pub(super) async fn inspect(connections: &Connections, sql: &Sql) -> Result<Durability, StoreError> {
    let durability = inspected(connections, sql).await?;
    let rows = connections.query(&sql.last_epoch, &[]).await?;
    Ok(Durability { epoch: epoch_of(rows.first())?, ..durability })
}

fn epoch_of(row: Option<&Row>) -> Result<Option<Epoch>, StoreError> {
    let row = row.ok_or_else(|| not_ours("its meta table is empty"))?;
    let (id, mark): (Option<i64>, i64) = (optional(row, 0)?, required(row, 1)?);
    Ok(id.map(|id| Epoch { id: id.cast_unsigned(), mark: mark.cast_unsigned() }))
}

/// By the settings alone.
async fn inspected(connections: &Connections, sql: &Sql) -> Result<Durability, StoreError> {
    // A second time: the server may have ended the first connection.
    let rows = match connections.query(SETTINGS, &[]).await {
        Ok(rows) => rows,
        Err(_) => connections.query(SETTINGS, &[]).await?,
    };
    let settings = rows.first().ok_or_else(|| unavailable("Postgres gave no row"))?;
    if required(settings, 0)? {
        return Err(unavailable("this Postgres is a standby, which takes no writes: name the primary"));
    }
    let rows = connections.query(&sql.layout, &[]).await?;
    check_layout(rows.first())?;
    durability_by(settings)
}

/// Whether the tables are those of this release.
pub(super) fn check_layout(row: Option<&Row>) -> Result<(), StoreError> {
    let layout: i32 = required(row.ok_or_else(|| not_ours("its meta table is empty"))?, 0)?;
    if layout == LAYOUT {
        return Ok(());
    }
    let message = format!("the tables have layout {layout}, and this release works with {LAYOUT}");
    Err(StoreError::new(StoreErrorKind::NewerFormat, message))
}

fn durability_by(settings: &Row) -> Result<Durability, StoreError> {
    let is_on = |column| required::<&str>(settings, column).map(|value| value == "on");
    let (fsync, full_pages) = (is_on(1)?, is_on(2)?);
    let (commit, names): (&str, &str) = (required(settings, 3)?, required(settings, 4)?);
    let standbys: i64 = required(settings, 5)?;
    // Our writes never go below `on` by default: see the statements.
    let waits = !names.trim().is_empty() && matches!(commit, "off" | "on" | "remote_apply");
    let survives = match (fsync && full_pages, waits) {
        (false, _) => DurabilityLevel::StoreCrash,
        (true, false) => DurabilityLevel::PowerLoss,
        (true, true) => DurabilityLevel::MachineLoss,
    };
    let warnings = [
        (!fsync, "fsync is off: power loss may destroy the whole database; turn it on"),
        (!full_pages, "full_page_writes is off: power loss may damage pages; turn it on"),
        (
            commit == "off",
            "synchronous_commit is off: this store sets it on for its own writes, not for rows you write elsewhere",
        ),
        (
            standbys > 0 && !waits,
            "its standbys are asynchronous: one that is promoted may lack the last writes; \
             set synchronous_standby_names",
        ),
    ];
    let warnings = warnings.into_iter().filter(|(applies, _)| *applies).map(|(_, warning)| warning.to_owned());
    Ok(Durability { warnings: warnings.collect(), ..Durability::of(survives) })
}

//! Tables in partitions, by ranges of the key.
//!
//! A key is a SHA-256, so ranges of equal width have as many keys each: they are what a hash
//! partition would be, and the store can tell itself which one a key is in. Its statements name the
//! partition. By way of the whole table, Postgres would lock all of them for each statement, or
//! plan each anew.

use std::fmt::Write;

use super::error::unavailable;
use crate::core::Key;
use crate::store::contract::StoreError;

/// More cost more than they give: each connection prepares its statements for each of them.
const MOST: u16 = 64;

/// Into how many the tables of records and of steps are divided; one is the tables themselves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Partitions(u16);

impl Partitions {
    pub(super) const NONE: Self = Self(1);

    /// Or the nearest number that there can be.
    pub(super) fn new(count: u16) -> Self {
        Self(count.clamp(1, MOST))
    }

    pub(super) fn is_none(self) -> bool {
        self == Self::NONE
    }

    /// The names of this table's.
    pub(super) fn of_table(self, name: &str) -> Vec<String> {
        if self.is_none() {
            return vec![name.to_owned()];
        }
        (0..self.0).map(|number| format!("{name}_{number}")).collect()
    }

    /// Which of so many a key is in.
    pub(super) fn place(key: &Key, count: usize) -> usize {
        let [first, second, ..] = *key.as_bytes();
        usize::from(u16::from_be_bytes([first, second])) * count / (1 << 16)
    }

    /// The bounds of each, as SQL has them: a key that is in it is not below the first, and below
    /// the second.
    fn bounds(self) -> impl Iterator<Item = String> {
        let bound = move |number: u16| match number {
            0 => "MINVALUE".to_owned(),
            last if last == self.0 => "MAXVALUE".to_owned(),
            // Whatever backslashes mean in other texts there.
            number => format!("E'\\\\x{:04x}'", (u32::from(number) << 16).div_ceil(self.0.into())),
        };
        (0..self.0).map(move |number| format!("FROM ({}) TO ({})", bound(number), bound(number + 1)))
    }

    /// What makes tables of the migration's that are to have partitions.
    pub(super) fn divide(self, migration: &str) -> String {
        const BY_KEY: &str = ") PARTITION BY RANGE (key);";
        const CASCADE: &str = " REFERENCES \"idempotency\".\"records\" (key) ON DELETE CASCADE,\n    n ";
        if self.is_none() {
            return migration.to_owned();
        }
        let mut sql = migration.replacen(CASCADE, ",\n    n ", 1);
        for last in ["    response bytea\n", "    PRIMARY KEY (key, n)\n"] {
            sql = sql.replacen(&format!("{last});"), &format!("{last}{BY_KEY}"), 1);
        }
        sql
    }

    /// What makes their partitions: a record's steps are where the record is.
    pub(super) fn tables(self, table: impl Fn(&str) -> String) -> String {
        let mut sql = String::new();
        if self.is_none() {
            return sql;
        }
        let (records, steps) = (table("records"), table("steps"));
        for (number, bounds) in self.bounds().enumerate() {
            let (record, step) = (table(&format!("records_{number}")), table(&format!("steps_{number}")));
            let _ = write!(
                sql,
                "\nCREATE TABLE IF NOT EXISTS {record} PARTITION OF {records} FOR VALUES {bounds};\n\
                 CREATE TABLE IF NOT EXISTS {step} PARTITION OF {steps} \
                 (FOREIGN KEY (key) REFERENCES {record} (key) ON DELETE CASCADE) FOR VALUES {bounds};\n"
            );
        }
        sql
    }

    /// Whether as many are `there`, and the role may use each: it may use the whole without.
    pub(super) fn check(self, there: i64, usable: i64) -> Result<(), StoreError> {
        let wanted = if self.is_none() { 0 } else { i64::from(self.0) };
        if there != wanted {
            let is_missing = there > 0 && there < wanted;
            let (there, wanted) = (there.max(1), wanted.max(1));
            let missing =
                if is_missing { "; if they were made as many as that, put back those that are missing" } else { "" };
            return Err(unavailable(format!(
                "the tables are in {there} partitions, and this store was told {wanted}: set partitions({there}), \
                 or make other tables, with another schema or table prefix{missing}"
            )));
        }
        if usable != 2 * wanted {
            return Err(unavailable(
                "the role needs SELECT, INSERT, UPDATE and DELETE on each partition of the tables, too",
            ));
        }
        Ok(())
    }

    /// Two columns for [`check`](Self::check): how many partitions of records there are, and how many of both tables
    /// this role may use.
    pub(super) fn look(records: &str, steps: &str) -> String {
        let quoted = |table: &str| table.replace('\\', "\\\\").replace('\'', "''");
        let quoted = |table: &str| format!("E'{}'::pg_catalog.regclass", quoted(table));
        let (records, steps) = (quoted(records), quoted(steps));
        let right = |right| format!("pg_catalog.has_table_privilege(inhrelid, '{right}')");
        let rights = ["SELECT", "INSERT", "UPDATE", "DELETE"].map(right).join(" AND ");
        format!(
            "(SELECT pg_catalog.count(*) FROM pg_catalog.pg_inherits WHERE inhparent = {records}), \
             (SELECT pg_catalog.count(*) FROM pg_catalog.pg_inherits WHERE inhparent IN ({records}, {steps}) AND {rights})"
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(first: u16) -> Key {
        let mut bytes = [0xff; 32];
        bytes[..2].copy_from_slice(&first.to_be_bytes());
        Key::from_bytes(bytes)
    }

    /// For every number of them, and every key: otherwise what is there would not be found.
    #[test]
    fn a_key_is_within_the_bounds_of_its_partition() {
        for count in 2..=MOST {
            let partitions = Partitions::new(count);
            let bound = |text: &str| u32::from_str_radix(text.trim_matches(|c: char| !c.is_ascii_hexdigit()), 16);
            let bounds: Vec<_> = partitions.bounds().collect();
            let froms = bounds.iter().skip(1).map(|bounds| {
                let (_, from) = bounds.split_once("'\\\\x").expect("a bound");
                bound(&from[..4]).expect("a number")
            });
            let starts: Vec<u32> = std::iter::once(0).chain(froms).collect();
            for first in 0..=u16::MAX {
                let place = Partitions::place(&key(first), count.into());
                let within =
                    starts[place] <= first.into() && starts.get(place + 1).is_none_or(|&next| u32::from(first) < next);
                assert!(within, "{first:04x} of {count}: {place}, {bounds:?}");
            }
        }
    }

    #[test]
    fn numbers_that_cannot_be_are_the_nearest_that_can() {
        assert!(Partitions::new(0).is_none() && Partitions::new(1).is_none());
        assert_eq!(Partitions::new(u16::MAX), Partitions(64));
    }
}

//! The store on Redis.

use super::Mutant;

planted_under!(rights, "-p servers --test redis", "rights");

pub(super) const MUTANTS: &[Mutant] = &[
    rights(
        "a-missing-right-is-taken-for-an-unreadable-record",
        "src/store/redis/scan.lua",
        "  if type(reply) ~= 'table' or string.find(reply.err, 'WRONGTYPE') then return reply end\n",
        "  if true then return reply end\n",
        "a_right_that_is_taken_away",
    ),
    rights(
        "a-missing-right-is-taken-for-another-type",
        "src/store/redis/load.lua",
        " and string.find(record.err, 'WRONGTYPE') then",
        " then",
        "a_right_that_is_taken_away",
    ),
    rights(
        "the-index-of-complete-records-is-not-tried",
        "src/store/redis/link.rs",
        "if self.names.indexes.complete || self.names.indexes.labels { \"1\" } else { \"\" }",
        "\"\"",
        "each_missing_right_is_named",
    ),
];

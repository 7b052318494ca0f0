//! The store on Redis.

use super::Mutant;

const CLUSTER: &str = "src/store/redis/cluster.rs";
const NODE: &str = "src/store/redis/node.rs";
const SLOTS: &str = "src/store/redis/slots.rs";

planted_under!(cluster, "-p servers --test redis", "cluster");
planted_under!(conformance, "-p servers --test conformance_redis", "redis");
planted_under!(cost, "-p servers --test redis", "cost");
planted_under!(partitions, "-p servers --test redis", "partitions");
planted_under!(slots, "--lib", "store::redis::slots::tests");
planted_under!(views, "-p servers --test redis", "views");
planted_under!(rights, "-p servers --test redis", "rights");

pub(super) const MUTANTS: &[Mutant] = &[
    cluster(
        "a-hanging-node-is-told-what-the-data-says-already",
        "src/store/redis/link.rs",
        "if self.partitions.known() != Known::Not {",
        "if false {",
        "a_node_that_hangs",
    ),
    views(
        "a-node-that-is-cut-off-is-asked-again-and-again",
        "src/store/redis/error.rs",
        "is_loading(error) || code(error) == \"CLUSTERDOWN\"",
        "is_loading(error)",
        "a_primary_that_is_cut_off",
    ),
    views(
        "who-names-a-dead-node-is-believed",
        CLUSTER,
        "if !node.is_away() && !self.names_one_away(&ranges) {",
        "if !node.is_away() {",
        "a_node_that_names_a_dead_one",
    ),
    views("who-knows-no-node-is-believed", CLUSTER, "if !ranges.is_empty() => {", "=> {", "a_node_that_knows_no_other"),
    views(
        "the-ninth-node-is-never-asked",
        CLUSTER,
        "            nodes.next().into_iter().for_each(|node| self.ask(&mut asked, node));\n",
        "",
        "the_last_of_many",
    ),
    views(
        "each-call-for-a-dead-node-looks-at-once",
        CLUSTER,
        "sleep_until(later(last, PAUSE)).await;",
        "sleep_until(later(last, Duration::ZERO)).await;",
        "a_dead_node_is_not_looked_for",
    ),
    views(
        "redirects-in-a-circle-say-to-name-a-cluster",
        CLUSTER,
        "make_extension_error(\"TRYAGAIN\".to_owned(),",
        "make_extension_error(\"MOVED\".to_owned(),",
        "a_circle_of_redirects",
    ),
    views(
        "a-caller-that-connects-for-all-holds-up-the-others",
        "src/store/for_all.rs",
        "let mut mine = JoinSet::new();",
        "static HELD: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());\nlet _held = HELD.lock().await;\n\
         let mut mine = JoinSet::new();",
        "a_call_that_is_not_polled",
    ),
    Mutant {
        name: "what-panics-for-all-is-begun-anew",
        file: "src/store/for_all.rs",
        text: "                resume_unwind(panic);\n",
        instead: "                drop(panic);\n",
        target: "--lib",
        module: "store::for_all::tests",
        filter: "what_panics",
    },
    cluster(
        "a-node-that-took-over-is-not-looked-for",
        CLUSTER,
        "        self.look().await.ok()?;\n",
        "",
        "a_replica_that_takes_over",
    ),
    cluster(
        "a-slot-that-moved-is-not-followed",
        CLUSTER,
        "let Some(redirect) = redirect else { return Ok(replies) };",
        "let Some(redirect) = redirect.filter(|redirect| redirect.once) else { return Ok(replies) };",
        "a_replica_that_takes_over",
    ),
    cluster(
        "a-slot-that-moves-is-asked-for-as-if-it-had-moved",
        CLUSTER,
        "asking = redirect.once;",
        "asking = false;",
        "a_slot_that_moves",
    ),
    cluster(
        "a-broken-connection-to-a-node-is-kept",
        NODE,
        "if refused.is_some_and(wants_reconnect) {",
        "if refused.is_some_and(|_| false) {",
        "a_dead_node",
    ),
    cluster(
        "a-node-of-a-cluster-may-take-its-time",
        NODE,
        "timeout(within, send(over, commands, asking)).await;",
        "Ok::<_, tokio::time::error::Elapsed>({ let _ = within; send(over, commands, asking).await });",
        "a_node_that_hangs",
    ),
    cluster(
        "nodes-are-asked-one-after-another-who-has-a-slot",
        CLUSTER,
        "return Ok(ranges);",
        "in_doubt = Some((after(MORE * 600), ranges));\ncontinue;",
        "a_node_that_hangs",
    ),
    slots(
        "a-node-that-does-not-know-its-host-is-lost",
        SLOTS,
        "\"\" | \"0.0.0.0\" | \"::\" => Some(asked.to_owned()),",
        "\"0.0.0.0\" | \"::\" => Some(asked.to_owned()),",
        "a_node_that_does_not_know",
    ),
    slots(
        "the-port-of-a-redirect-is-that-of-its-host",
        SLOTS,
        ".rsplit_once(':')?;",
        ".split_once(':')?;",
        "redirects_say",
    ),
    cost(
        "redis-begins-an-operation-when-the-one-before-it-began",
        "src/store/redis/layout.rs",
        "Some(_) => next.is_first().then(|| \"now\".to_owned()),",
        "Some(_) => None,",
        "only_complete_records",
    ),
    conformance(
        "redis-forgets-when-an-operation-began",
        "src/store/redis/put.lua",
        "if not created or created == 'now' then",
        "if true then",
        "creation_is_kept",
    ),
    partitions(
        "the-last-of-two-numbers-of-partitions-counts",
        "src/store/redis/partitions.lua",
        ", ARGV[1], 'NX')",
        ", ARGV[1])",
        "of_two_first_writers",
    ),
    partitions(
        "a-number-of-partitions-is-not-compared",
        "src/store/redis/partitions.rs",
        "if found != names.partitions() {",
        "if false {",
        "the_data_remembers_it",
    ),
    partitions(
        "the-number-of-partitions-is-decided-by-a-look",
        "src/store/redis/partitions.rs",
        "(connection.clone(), ask(names, partition, \"\"));",
        "(connection.clone(), ask(names, partition, &names.partitions().to_string()));",
        "a_look_from_outside",
    ),
    partitions(
        "a-question-for-the-durability-forgets-the-partitions",
        "src/store/redis/store.rs",
        "        self.link.remember_partitions().await?;\n        let epoch",
        "        let epoch",
        "a_question_for_the_durability",
    ),
    partitions(
        "data-without-a-number-may-have-any",
        "src/store/redis/partitions.rs",
        "Said::Nothing => refuse_older(connection, names, within).await?,",
        "Said::Nothing => {}",
        "data_that_says_nothing",
    ),
    partitions(
        "a-number-of-partitions-is-looked-at-once",
        "src/store/redis/link.rs",
        "let checked = self.partitions.check(&connection, &self.names, self.timeouts.response).await;",
        "let checked: Result<(), StoreError> = Ok(());",
        "it_is_remembered_again",
    ),
    partitions(
        "a-full-server-needs-room-for-the-number",
        "src/store/redis/link.rs",
        "if error.kind() == StoreErrorKind::Full",
        "if error.kind() == StoreErrorKind::Corrupt",
        "work_that_was_admitted",
    ),
    partitions(
        "one-partition-alone-knows-the-number",
        "src/store/redis/partitions.rs",
        "that_know(connection, names).skip(1)",
        "that_know(connection, names).skip(99)",
        "in_a_cluster",
    ),
    partitions(
        "the-number-of-partitions-is-told-once",
        "src/store/redis/link.rs",
        "tokio::spawn(async move { link.tell_partitions_again().await });",
        "drop(link);",
        "it_is_remembered_again_by_what",
    ),
    partitions(
        "what-a-process-wrote-since-is-taken-for-older-data",
        "src/store/redis/partitions.rs",
        "Said::Nothing if self.is_ours.load(Ordering::Relaxed) => {}",
        "Said::Nothing if self.is_ours.load(Ordering::Relaxed) && false => {}",
        "what_was_written_after_everything",
    ),
    partitions(
        "one-that-was-refused-takes-the-data-for-its-own",
        "src/store/redis/partitions.rs",
        "            self.is_ours.store(false, Ordering::Relaxed);\n",
        "",
        "another_number_that_was_decided",
    ),
    partitions(
        "one-whose-write-was-refused-reads-elsewhere",
        "src/store/redis/link.rs",
        ".inspect_err(|_| self.give_up(connection))?;",
        "?;",
        "one_whose_write_was_refused",
    ),
    partitions(
        "partitions-share-half-of-their-records",
        "src/store/redis/layout.rs",
        "u16::from_be_bytes([*high, *low]) % self.partitions();",
        "u16::from_be_bytes([0 & *high, *low]) % self.partitions();",
        "records_lie_in_all",
    ),
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

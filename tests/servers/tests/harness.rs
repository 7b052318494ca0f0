//! The servers of this package, before anything is tested with them.

use servers::{Cluster, Postgres, Redis, Sentinels};

#[test]
fn a_server_starts_stops_and_starts_again_with_what_it_kept() {
    let mut redis = Redis::start_with(&["--appendonly", "yes", "--appendfsync", "always"]);
    assert_eq!(redis.cli(&["SET", "a", "1"]), "OK");
    redis.kill();
    redis.restart();
    assert_eq!(redis.cli(&["GET", "a"]), "1");
    redis.stop();
    redis.restart();
    assert_eq!(redis.cli(&["GET", "a"]), "1");
}

#[test]
fn valkey_starts() {
    let valkey = Redis::valkey();
    assert_eq!(valkey.info("server_name"), "valkey");
}

#[test]
fn a_cluster_serves_every_slot() {
    let cluster = Cluster::start();
    let served = |key: &str| cluster.nodes().iter().filter(|node| node.cli(&["SET", key, "1"]) == "OK").count();
    assert!(["a", "b", "c", "d"].into_iter().all(|key| served(key) == 1));
}

#[test]
fn sentinels_fail_over() {
    let mut group = Sentinels::start();
    let old = group.primary_port();
    group.primary().kill();
    group.wait_for_failover(old);
    assert_ne!(group.primary_port(), old);
}

#[test]
fn it_keeps_its_data_and_its_port_over_every_kind_of_end() {
    let mut server = Postgres::start();
    server.sql("CREATE TABLE t (n int)");
    for (n, end) in [Postgres::stop, Postgres::stop_at_once, Postgres::kill].iter().enumerate() {
        server.sql("INSERT INTO t VALUES (1)");
        end(&mut server);
        server.start_again();
        assert_eq!(server.sql("SELECT sum(n) FROM t"), (n + 1).to_string());
    }
}

#[test]
fn a_standby_follows_and_can_be_promoted() {
    let primary = Postgres::start();
    let standby = primary.standby();
    primary.sql("CREATE TABLE t (n int)");
    primary.wait_for(&standby);
    assert_eq!(standby.sql("SELECT pg_is_in_recovery()"), "t");
    drop(primary);
    standby.promote();
    standby.sql("INSERT INTO t VALUES (1)");
}

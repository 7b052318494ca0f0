//! `RedisStore` on real servers: what it costs, what breaks, and what is
//! refused.

#[path = "redis/busy.rs"]
mod busy;
#[path = "redis/cluster.rs"]
mod cluster;
#[path = "redis/complete.rs"]
mod complete;
#[path = "redis/cost.rs"]
mod cost;
#[path = "redis/faults.rs"]
mod faults;
#[path = "redis/given.rs"]
mod given;
#[path = "redis/hostless.rs"]
mod hostless;
#[path = "redis/labels.rs"]
mod labels;
#[path = "redis/link.rs"]
mod link;
#[path = "redis/memory.rs"]
mod memory;
#[path = "redis/partitions.rs"]
mod partitions;
#[path = "redis/refused.rs"]
mod refused;
#[path = "redis/replies.rs"]
mod replies;
#[path = "redis/rights.rs"]
mod rights;
#[path = "redis/sentinel.rs"]
mod sentinel;
#[path = "redis/settings.rs"]
mod settings;
#[path = "redis/support.rs"]
mod support;
#[path = "redis/survives.rs"]
mod survives;
#[path = "redis/tls.rs"]
mod tls;
#[path = "redis/views.rs"]
mod views;
#[path = "redis/waiting.rs"]
mod waiting;

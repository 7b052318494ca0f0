//! `RedisStore` on real servers: what it costs, what breaks, and what is
//! refused.

#[path = "redis/cost.rs"]
mod cost;
#[path = "redis/faults.rs"]
mod faults;
#[path = "redis/refused.rs"]
mod refused;
#[path = "redis/support.rs"]
mod support;
#[path = "redis/survives.rs"]
mod survives;

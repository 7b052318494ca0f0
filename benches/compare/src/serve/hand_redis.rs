//! By hand, on Redis.

use std::sync::Arc;

use redis::aio::ConnectionManager;
use redis::{AsyncCommands, Script};

use super::hand::{Books, HEAD, RETENTION_MILLIS, SPAN_MILLIS, version};
use crate::Failure;

#[derive(Clone)]
pub(super) struct UnfencedRedis(ConnectionManager);

async fn manager(url: &str) -> Result<ConnectionManager, Failure> {
    Ok(redis::Client::open(url)?.get_connection_manager().await?)
}

impl UnfencedRedis {
    pub(super) async fn connect(url: &str) -> Result<Self, Failure> {
        Ok(Self(manager(url).await?))
    }
}

impl Books for UnfencedRedis {
    type Claim = ();

    async fn claim(&self, key: &str) -> Result<(), Vec<u8>> {
        let mut redis = self.0.clone();
        if redis.set_nx(key, "").await.expect("redis answers") {
            return Ok(());
        }
        Err(redis.get(key).await.expect("redis answers"))
    }

    async fn keep(&self, key: &str, (): (), answer: &[u8]) {
        self.0.clone().set_ex(key, answer, RETENTION_MILLIS.unsigned_abs() / 1000).await.expect("redis answers")
    }
}

/// With the store's own script: it compares, files the claim by its lease, and stamps with
/// the server's time.
#[derive(Clone)]
pub(super) struct SameRedis(ConnectionManager, Arc<Script>);

impl SameRedis {
    pub(super) async fn connect(url: &str) -> Result<Self, Failure> {
        let script = concat!(
            include_str!("../../../../src/store/redis/compare.lua"),
            include_str!("../../../../src/store/redis/put.lua")
        );
        Ok(Self(manager(url).await?, Arc::new(Script::new(script))))
    }

    async fn put(
        &self,
        key: &str,
        expected: &[u8],
        status: &str,
        version: &[u8],
        span: i64,
        body: &[u8],
    ) -> redis::Value {
        let mut call = self.1.key(format!("{{by-hand:01}}:{key}"));
        let columns = format!("0 0 {}\n", HEAD.len());
        call.key("{by-hand:01}:due").arg(expected).arg(span).arg(status);
        call.arg([columns.as_bytes(), version, body].concat());
        call.invoke_async(&mut self.0.clone()).await.expect("redis answers")
    }
}

impl Books for SameRedis {
    type Claim = [u8; 8];

    async fn claim(&self, key: &str) -> Result<[u8; 8], Vec<u8>> {
        let version = version().to_be_bytes();
        let redis::Value::Array(found) = self.put(key, b"", "P", &version, SPAN_MILLIS, HEAD).await else {
            return Ok(version);
        };
        let (_, record): (u64, Vec<u8>) = redis::from_redis_value(redis::Value::Array(found)).expect("ours");
        let head = record.iter().position(|byte| *byte == b'\n').expect("columns") + 1 + version.len() + HEAD.len();
        Err(record[head..].to_vec())
    }

    async fn keep(&self, key: &str, claim: [u8; 8], answer: &[u8]) {
        let version = version().to_be_bytes();
        let done = self.put(key, &claim, "C", &version, RETENTION_MILLIS, &[HEAD, answer].concat()).await;
        assert!(matches!(done, redis::Value::Int(_)), "the claim is lost");
    }
}

//! Whose operation it is, and by which labels an operator finds it.

use std::sync::Arc;

use http::request::Parts;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::IdempotencyLayer;
use crate::core::Labels;
use crate::http::whose::Principal;

impl IdempotencyLayer {
    /// Stores the request extension `T`, which says whose operation it is, with each request
    /// that the layer stores: in resumable mode, and in the background. A
    /// [`Completer`](crate::Completer) puts it back into the extensions of the request that it
    /// drives, before its [`prepare`](crate::Completer::prepare), so that a handler finds its
    /// caller in each attempt. By default the layer stores no extension.
    ///
    /// The layer stores `T` as JSON, of at most 1 KiB: an id and what the handler needs beside
    /// it. [Encryption](crate::guide::stored) covers it. An [`Operator`](crate::Operator) sees it
    /// ([`Record::principal`](crate::core::Record::principal)) as long as the request is stored,
    /// which is until the operation is complete. A request without the extension is stored
    /// without it.
    ///
    /// ```
    /// use axum::{Extension, Router, body::Body, http::Request, routing::post};
    /// use serde::{Deserialize, Serialize};
    /// use tower_idempotency::{Completer, IdempotencyLayer, Scope, store::MemoryStore};
    ///
    /// #[derive(Clone, Serialize, Deserialize)]
    /// struct User {
    ///     id: u64,
    /// }
    ///
    /// async fn pay(Extension(user): Extension<User>) -> String {
    ///     format!("paid by {}", user.id)
    /// }
    ///
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let scope = Scope::by(|parts| parts.extensions.get::<User>().map(|user| user.id.to_string()));
    /// let layer = IdempotencyLayer::new(MemoryStore::new(), scope).resumable().principal::<User>();
    /// let app: Router = Router::new().route("/payments", post(pay)).layer(layer.clone());
    /// let completer = Completer::new(&layer, app.clone());
    /// # let _ = completer;
    /// // Your authentication, outside:
    /// let app = app.layer(Extension(User { id: 17 }));
    /// # use tower::ServiceExt;
    /// # let request = Request::post("/payments").header("idempotency-key", "k").body(Body::empty())?;
    /// # assert_eq!(axum::body::to_bytes(app.oneshot(request).await?.into_body(), 99).await?, "paid by 17");
    /// # Ok(()) }
    /// ```
    ///
    /// # Caveats
    ///
    /// - **Rights that were revoked meanwhile live on in it.** It says whose operation it *was*,
    ///   perhaps days ago. If that counts, check them again in the completer's
    ///   [`prepare`](crate::Completer::prepare), which sees the extension, or in the handler: see
    ///   [the guide](crate::guide::completer#whose-operation-it-is).
    /// - Do not put a credential into it: an operator sees it, and so does who reads the store,
    ///   unless you encrypt it.
    /// - If it is larger, or JSON can't carry it, or its `Serialize` panics, the layer refuses the
    ///   request before anything runs: 500 `principal-not-stored`.
    /// - The next release has to read what this one stores. A completer parks an operation whose
    ///   principal does not read as `T`. A completer whose layer is without this setting drives
    ///   the request without the extension.
    pub fn principal<T>(self) -> Self
    where
        T: Serialize + DeserializeOwned + Clone + Send + Sync + 'static,
    {
        self.set(|policy| policy.whose.principal = Some(Principal::of::<T>()))
    }

    /// Calls `hook` with the head of each guarded request, for the [labels](Labels) by which an
    /// operator finds its operation: the route, an order's number. By default there are none.
    ///
    /// The layer stores them with the first claim, which is no write more, and keeps them as long
    /// as the record, after the response too. The handler adds others with
    /// [`Operation::label`](crate::Operation::label). [Encryption](crate::guide::stored) covers
    /// them. Each takes its length and one or two bytes in the record's head.
    ///
    /// ```
    /// use tower_idempotency::{IdempotencyLayer, Labels, Scope, store::MemoryStore};
    ///
    /// let layer = IdempotencyLayer::new(MemoryStore::new(), Scope::extension::<u64>())
    ///     .labels(|parts| Labels::new().with("route", parts.uri.path()));
    /// ```
    ///
    /// # Caveats
    ///
    /// - The layer calls the hook for retries, too; the labels of the first request count.
    /// - If the hook panics, the operation runs without labels.
    /// - A build from before this setting drops them from each record that it writes.
    pub fn labels(self, hook: impl Fn(&Parts) -> Labels + Send + Sync + 'static) -> Self {
        self.set(|policy| policy.whose.labels = Some(Arc::new(hook)))
    }
}

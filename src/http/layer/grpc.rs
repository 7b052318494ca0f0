//! Which gRPC calls the layer guards.

use super::IdempotencyLayer;
use crate::http::grpc::GrpcMethods;

impl IdempotencyLayer {
    /// Guards these gRPC methods: none by default. The layer reads a guarded request to
    /// its end before the handler gets it, so a bidirectional stream would wait for its own
    /// response; and on the wire a unary call looks like a stream. So name the unary methods.
    ///
    /// A call is a request over HTTP/2 whose `Content-Type` is `application/grpc`, alone or
    /// with a format (`+proto`). A call of a method that you did not name passes unread, as if
    /// there were no layer. The first such call that carries a key raises
    /// [`EventKind::KeyIgnored`](crate::EventKind::KeyIgnored). Where a key is
    /// [required](Self::required), the layer refuses such calls: `grpc-method-not-named`. Exempt
    /// streams with [`required_if`](Self::required_if) or [`skip`](Self::skip).
    ///
    /// The layer refuses a call with a gRPC status, see [the
    /// guide](crate::guide::problems#grpc). How a call counts follows from its
    /// `grpc-status`, see [`Outcome`](crate::Outcome).
    ///
    /// ```
    /// use tower_idempotency::{GrpcMethods, IdempotencyLayer, Scope, store::MemoryStore};
    ///
    /// let layer = IdempotencyLayer::new(MemoryStore::new(), Scope::extension::<u64>())
    ///     .grpc_methods(GrpcMethods::named(["/shop.Payments/Charge"])?);
    /// # Ok::<_, tower_idempotency::InvalidGrpcMethods>(())
    /// ```
    ///
    /// # Caveats
    ///
    /// Do not name a method whose client streams: the layer refuses a call that waits for a
    /// response before it ends, after [`upload_timeout`](Self::upload_timeout). You may name a
    /// method whose server streams: the layer keeps its response if it ends
    /// within [`stream_after`](Self::stream_after). For gRPC calls the layer ignores
    /// `Prefer: respond-async` and [`Background::always`](crate::Background::always): gRPC has
    /// no 202.
    pub fn grpc_methods(self, methods: GrpcMethods) -> Self {
        self.set(|policy| policy.coverage.grpc = Some(methods))
    }
}

//! Which calls of gRPC are guarded.

use super::IdempotencyLayer;
use crate::http::grpc::GrpcMethods;

impl IdempotencyLayer {
    /// Guards these methods of gRPC: none by default. The layer reads a guarded request to
    /// its end before the handler gets it, and a bidirectional stream would wait for its own
    /// response; on the wire a unary call looks the same. So name unary methods.
    ///
    /// A call is a request over HTTP/2 whose `Content-Type` is `application/grpc`, alone or
    /// with a format (`+proto`). A call of a method that is not named passes unread, as if
    /// the layer was not there. The first one of them that carries a key raises
    /// [`EventKind::KeyIgnored`](crate::EventKind::KeyIgnored). Where a key is
    /// [required](Self::required), such a call is refused: `grpc-method-not-named`. Leave
    /// streams out of that with [`required_if`](Self::required_if) or [`skip`](Self::skip).
    ///
    /// Refusals of calls are statuses of gRPC, see [the
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
    /// A method that streams from its client must not be named: a call that waits for a
    /// response before it ends is refused after [`upload_timeout`](Self::upload_timeout). One
    /// that streams to its client may be named: its response is kept if it ends
    /// within [`stream_after`](Self::stream_after). `Prefer: respond-async` is ignored for
    /// calls, as is [`Background::always`](crate::Background::always): a 202 is no response
    /// of gRPC.
    pub fn grpc_methods(self, methods: GrpcMethods) -> Self {
        self.set(|policy| policy.coverage.grpc = Some(methods))
    }
}

//! Which gRPC calls the layer guards. A unary call and a stream look alike on the wire, and
//! the body of a stream may end only after its response: so the user names the methods.

use std::collections::HashSet;
use std::error::Error;
use std::fmt;
use std::sync::Arc;

use http::header::CONTENT_TYPE;
use http::{HeaderMap, Version};

/// Which gRPC methods the layer guards, see
/// [`IdempotencyLayer::grpc_methods`](crate::IdempotencyLayer::grpc_methods).
#[derive(Clone)]
#[must_use]
pub struct GrpcMethods(Names);

#[derive(Clone)]
enum Names {
    Listed(Arc<HashSet<Box<str>>>),
    By(Arc<dyn Fn(&str) -> bool + Send + Sync>),
}

impl GrpcMethods {
    /// These methods, each written as the path of its requests: `/package.Service/Method`.
    ///
    /// ```
    /// use tower_idempotency::GrpcMethods;
    ///
    /// let methods = GrpcMethods::named(["/shop.Payments/Charge", "/shop.Payments/Refund"])?;
    /// assert!(GrpcMethods::named(["Charge"]).is_err());
    /// # let _ = methods;
    /// # Ok::<_, tower_idempotency::InvalidGrpcMethods>(())
    /// ```
    ///
    /// # Errors
    ///
    /// If one is not such a path, or the list is empty: the layer would guard nothing.
    pub fn named<I>(methods: I) -> Result<Self, InvalidGrpcMethods>
    where
        I: IntoIterator,
        I::Item: AsRef<str>,
    {
        let mut names = HashSet::new();
        for method in methods {
            let method = method.as_ref();
            if !is_path(method) {
                return Err(InvalidGrpcMethods(format!(
                    "{method:?} is not a method: write it as \"/package.Service/Method\""
                )));
            }
            names.insert(Box::from(method));
        }
        Self::listed(names)
    }

    /// The methods for which `is_guarded` returns `true`. The layer calls it for each call with
    /// a key, with the path as the layer gets it: within a nested router of axum, that is the
    /// rest.
    ///
    /// ```
    /// use tower_idempotency::GrpcMethods;
    ///
    /// let methods = GrpcMethods::by(|path| path.starts_with("/shop.Payments/") && path != "/shop.Payments/Watch");
    /// # let _ = methods;
    /// ```
    pub fn by(is_guarded: impl Fn(&str) -> bool + Send + Sync + 'static) -> Self {
        Self(Names::By(Arc::new(is_guarded)))
    }

    /// The unary methods of all services in this `google.protobuf.FileDescriptorSet`, which
    /// `protoc --descriptor_set_out` writes, and `tonic-prost-build` with
    /// `file_descriptor_set_path`. Methods that stream in either direction are left out.
    ///
    /// ```
    /// use tower_idempotency::GrpcMethods;
    ///
    /// # let set = b"\n7\n\nshop.proto\x12\x04shop2#\n\x08Payments\x12\x17\n\x06Charge\x12\x06.shop.\x1a\x05.shop";
    /// // In a service: tonic::include_file_descriptor_set!("shop")
    /// let methods = GrpcMethods::unary_in(set)?;
    /// # let _ = methods;
    /// # Ok::<_, tower_idempotency::InvalidGrpcMethods>(())
    /// ```
    ///
    /// # Errors
    ///
    /// If these bytes are not such a set, or it has no unary method.
    #[cfg(feature = "prost")]
    #[cfg_attr(docsrs, doc(cfg(feature = "prost")))]
    pub fn unary_in(descriptor_set: &[u8]) -> Result<Self, InvalidGrpcMethods> {
        use prost::Message as _;

        let set = prost_types::FileDescriptorSet::decode(descriptor_set).map_err(|error| {
            InvalidGrpcMethods(format!("these bytes are not a FileDescriptorSet, as protoc writes it: {error}"))
        })?;
        let mut names = HashSet::new();
        for file in &set.file {
            let package = Some(file.package()).filter(|package| !package.is_empty());
            for service in &file.service {
                let service_name = package.into_iter().chain([service.name()]).collect::<Vec<_>>().join(".");
                let unary = service.method.iter().filter(|all| !all.client_streaming() && !all.server_streaming());
                names.extend(unary.map(|method| format!("/{service_name}/{}", method.name()).into_boxed_str()));
            }
        }
        Self::listed(names)
    }

    fn listed(names: HashSet<Box<str>>) -> Result<Self, InvalidGrpcMethods> {
        if names.is_empty() {
            return Err(InvalidGrpcMethods("no method is named: name one, or leave the setting out".to_owned()));
        }
        Ok(Self(Names::Listed(Arc::new(names))))
    }

    pub(crate) fn has(&self, path: &str) -> bool {
        match &self.0 {
            Names::Listed(names) => names.contains(path),
            Names::By(is_guarded) => is_guarded(path),
        }
    }
}

impl fmt::Debug for GrpcMethods {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Names::Listed(names) => f.debug_tuple("GrpcMethods").field(names).finish(),
            Names::By(_) => f.debug_tuple("GrpcMethods").finish_non_exhaustive(),
        }
    }
}

/// A list of methods that makes no sense; the text says what to write instead.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InvalidGrpcMethods(String);

impl fmt::Display for InvalidGrpcMethods {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Error for InvalidGrpcMethods {}

/// Whether it is `/service/method`, of what identifiers are made of.
fn is_path(method: &str) -> bool {
    let is_name =
        |name: &str| !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b));
    let parts = method.strip_prefix('/').and_then(|rest| rest.split_once('/'));
    parts.is_some_and(|(service, method)| is_name(service) && is_name(method))
}

/// Whether a request is a call of gRPC: that needs HTTP/2 at least. gRPC-Web is none: it
/// has no streams from the client, and its statuses are in bodies.
#[inline]
pub(crate) fn is_call(version: Version, headers: &HeaderMap) -> bool {
    version >= Version::HTTP_2 && has_type(headers)
}

/// `application/grpc`, alone or with what a message is made of: `+proto`.
fn has_type(headers: &HeaderMap) -> bool {
    const GRPC: &[u8] = b"application/grpc";
    let Some(value) = headers.get(CONTENT_TYPE) else { return false };
    let Some((start, rest)) = value.as_bytes().split_at_checked(GRPC.len()) else { return false };
    start.eq_ignore_ascii_case(GRPC) && rest.first().is_none_or(|next| b"+; \t".contains(next))
}

//! HTTP/2 towards both sides, and sockets of this machine.

use bytes::Bytes;
use http::{Request, Response, Version};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::client::legacy::Client;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto::Builder;
use tempfile::TempDir;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, UnixListener};

use super::bed::{Proxy, Service, TRUSTING};

/// Says which version it was asked in.
async fn says_version(request: Request<Incoming>) -> Result<Response<Full<Bytes>>, hyper::Error> {
    let host = request.headers().get_all("host").iter().filter_map(|host| host.to_str().ok()).collect::<String>();
    let text = format!("{:?} {} {host}", request.version(), request.uri().path());
    let _ = request.into_body().collect().await?;
    Ok(Response::new(Full::from(text)))
}

async fn serve(stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static) {
    let served =
        Builder::new(TokioExecutor::new()).serve_connection(TokioIo::new(stream), service_fn(says_version)).await;
    drop(served);
}

#[tokio::test]
async fn a_client_may_speak_http_2_without_tls() {
    let service = Service::start();
    let proxy = Proxy::start(service.address, TRUSTING);
    let client = Client::builder(TokioExecutor::new()).http2_only(true).build_http::<Full<Bytes>>();
    for replayed in [false, true] {
        let request = Request::post(format!("http://{}/payments", proxy.address))
            .header("x-user", "ann")
            .header("idempotency-key", "\"k\"")
            .header("host", "other")
            .header("cookie", "a=1")
            .header("cookie", "b=2");
        let response = client.request(request.body(Full::from("hi")).unwrap()).await.unwrap();
        assert_eq!((response.version(), response.status().as_u16()), (Version::HTTP_2, 201));
        assert_eq!(response.headers().contains_key("idempotent-replayed"), replayed);
        assert_eq!(response.into_body().collect().await.unwrap().to_bytes(), "number 1");
    }
    assert_eq!(service.last().header("cookie"), Some("a=1; b=2"));
    assert_eq!(service.last().header("via"), Some("2.0 idempotency"));
    assert_eq!(service.last().header("host"), Some(&*proxy.address.to_string()));
}

#[tokio::test]
async fn a_service_may_speak_http_2_without_tls() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(serve(stream));
        }
    });
    let asked = tokio::task::spawn_blocking(move || {
        let proxy = Proxy::start_with(TempDir::new().unwrap(), &format!("h2c://{address}"), TRUSTING);
        [proxy.pay("/payments", "k").body, proxy.pay("/payments", "k").body]
    });
    assert_eq!(asked.await.unwrap(), ["HTTP/2.0 /payments ", "HTTP/2.0 /payments "]);
}

#[tokio::test]
async fn a_service_may_listen_on_a_socket_of_the_machine() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("app.sock");
    let listener = UnixListener::bind(&path).unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(serve(stream));
        }
    });
    let asked = tokio::task::spawn_blocking(move || {
        let proxy = Proxy::start_with(folder, &format!("unix:{}", path.display()), TRUSTING);
        [proxy.pay("/payments", "k").body, proxy.pay("/payments", "k").body]
    });
    assert_eq!(asked.await.unwrap(), ["HTTP/1.1 /payments shop", "HTTP/1.1 /payments shop"]);
}

//! The proxy in front of other services.

use super::Mutant;

planted_under!(proxy, "-p idempotency --test proxy");
planted_under!(waits, "-p idempotency --bin idempotency", "proxy::upload::tests");
planted_under!(lanes, "-p idempotency --bin idempotency", "proxy::lanes::tests");
planted_under!(killed, "-p killbox --test proxy");

const ANSWER: &str = "idempotency/src/proxy/answer.rs";
const FORWARD: &str = "idempotency/src/proxy/forward.rs";
const UPSTREAM: &str = "idempotency/src/proxy/upstream.rs";
const TOKEN: &str = "idempotency/src/proxy/scope/token.rs";

pub(super) const MUTANTS: &[Mutant] = &[
    lanes(
        "one-thread-has-all-connections",
        "idempotency/src/proxy/lanes.rs",
        "let left = Left(Arc::clone(&lane.connections));",
        "let left = Left(Arc::new(AtomicUsize::new(lane.connections.swap(0, Ordering::Relaxed))));",
        "each_has_as_many_connections_as_the_others",
    ),
    lanes(
        "a-connection-that-ended-still-counts",
        "idempotency/src/proxy/lanes.rs",
        "self.0.fetch_sub(1, Ordering::Relaxed);",
        "self.0.fetch_sub(0, Ordering::Relaxed);",
        "one_that_ended_makes_room",
    ),
    killed(
        "the-lease-of-a-proxy-is-not-what-was-set",
        "idempotency/src/proxy/table.rs",
        "let engine = engine.clone().lease(lease);",
        "let engine = engine.clone().lease(lease * 1000);",
        "the_page_has_what_came_of_each",
    ),
    proxy(
        "a-route-that-is-not-resumable-sends-a-request-again",
        "idempotency/src/proxy/table.rs",
        "    if is_resumable(rules) {\n        layer = layer.resumable();\n    }",
        "    layer = layer.resumable();",
        "what_a_service_did_that_closes_the_connection_is_not_known",
    ),
    waits(
        "a-slow-client-is-taken-for-one-that-stalls",
        "idempotency/src/proxy/upload.rs",
        "self.0.store((now << 1) | u64::from(is_pending)",
        "self.0.store((now & 0) | u64::from(is_pending)",
        "a_client_that_goes_on_is_waited_for_since_its_last_byte",
    ),
    waits(
        "a-client-that-is-asked-again-gets-more-time",
        "idempotency/src/proxy/upload.rs",
        "if is_pending && self.0.load(Ordering::Relaxed) & CLIENT != 0 {",
        "if is_pending && self.0.load(Ordering::Relaxed) & CLIENT != 0 && false {",
        "a_client_that_is_asked_again_gets_no_more_time",
    ),
    proxy(
        "a-client-that-stalls-is-taken-for-a-slow-service",
        "idempotency/src/proxy/upload.rs",
        "Trouble::TooSlow } else { Trouble::Stalled }, waited)",
        "Trouble::TooSlow } else { Trouble::TooSlow }, waited)",
        "a_client_that_stalls_in_an_upload_without_a_key_keeps_no_connection",
    ),
    proxy(
        "a-connection-that-is-not-made-leaves-a-doubt",
        UPSTREAM,
        "let limit = CONNECT.min(timeout / 2);",
        "let limit = CONNECT.max(timeout);",
        "a_service_that_takes_no_connection_was_sent_nothing_however_short_the_timeout",
    ),
    proxy(
        "the-access-log-can-not-be-turned-off",
        "idempotency/src/proxy/serve.rs",
        "table.is_logged().then(",
        "true.then(",
        "without_an_access_log_only_what_is_about_no_request_is_written",
    ),
    proxy(
        "the-container-has-a-program-that-is-not-the-shipped-one",
        "idempotency/deploy/Dockerfile",
        "cargo build --profile dist --locked",
        "cargo build --release --locked",
        "the_container_has_no_shell_no_root_and_no_tag_that_moves",
    ),
    proxy(
        "a-service-hears-what-the-pool-calls-it",
        UPSTREAM,
        "} else if !headers.contains_key(HOST) {",
        "} else if !headers.contains_key(HOST) && false {",
        "a_request_that_names_no_host_gets_that_of_the_service",
    ),
    proxy(
        "the-file-counts-more-than-no-access-log",
        "idempotency/src/proxy/settings.rs",
        "!typed.no_access_log && file.access_log.is_none_or(Switch::is_on)",
        "file.access_log.map_or(!typed.no_access_log, Switch::is_on)",
        "the_access_log_can_be_turned_off_as_it_is_started",
    ),
    proxy(
        "any-lease-of-a-proxy-will-do",
        "idempotency/src/proxy/settings.rs",
        "if length < LEAST_LEASE {",
        "if length < LEAST_LEASE && false {",
        "what_is_wrong_is_refused_with_its_line_and_what_to_write",
    ),
    proxy(
        "what-broke-off-is-sent-again",
        ANSWER,
        "Self::BrokenOff | Self::TooSlow | Self::Stalled => Outcome::Retryable,",
        "Self::BrokenOff | Self::TooSlow | Self::Stalled => Outcome::NothingHappened,",
        "what_a_service_did_that_closes_the_connection_is_not_known",
    ),
    proxy(
        "every-error-counts-as-nothing-sent",
        UPSTREAM,
        "if error.is_connect() {",
        "if error.is_connect() || true {",
        "what_a_service_did_that_closes_the_connection_is_not_known",
    ),
    proxy(
        "a-service-that-is-down-leaves-a-doubt",
        UPSTREAM,
        "if error.is_connect() {",
        "if error.is_connect() && false {",
        "a_service_that_is_down_was_sent_nothing_and_the_key_is_free",
    ),
    proxy(
        "any-peer-says-whose-request-it-is",
        "idempotency/src/proxy/serve.rs",
        "is_trusted: table.trusts(peer.address),",
        "is_trusted: table.trusts(peer.address) || true,",
        "only_a_trusted_peer_says_who_the_client_is",
    ),
    proxy(
        "signatures-of-tokens-are-not-checked",
        TOKEN,
        "self.is_signed(message, signature).then_some(())",
        "(self.is_signed(message, signature) || true).then_some(())",
        "a_claim_of_a_token_that_is_valid_is_the_client",
    ),
    proxy(
        "tokens-of-other-issuers-count",
        TOKEN,
        "validation.set_issuer(&[issuer]);",
        "let _ = issuer;",
        "a_claim_of_a_token_that_is_valid_is_the_client",
    ),
    proxy(
        "of-several-names-the-first-is-the-client",
        "idempotency/src/proxy/scope/certificate.rs",
        "[name] => Some(name.clone()),",
        "[name, ..] => Some(name.clone()),",
        "a_name_of_a_certificate_that_was_verified_is_the_client",
    ),
    proxy(
        "who-was-thrown-out-gets-replays",
        "idempotency/src/proxy/scope/ask.rs",
        "status if status.is_success() => {",
        "status if status.is_success() || true => {",
        "another_service_says_whose_request_it_is",
    ),
    proxy(
        "what-is-about-one-connection-passes",
        UPSTREAM,
        "        forward::strip(response.headers_mut());\n",
        "",
        "what_is_about_one_connection_does_not_pass",
    ),
    proxy(
        "a-client-says-which-attempt-it-is",
        FORWARD,
        "    headers.remove(&ATTEMPT);\n",
        "",
        "what_is_about_one_connection_does_not_pass",
    ),
    proxy(
        "a-proxy-that-stops-begins-operations",
        "idempotency/src/proxy/mod.rs",
        "let drained = engine.drain(drain).await;",
        "let drained = tower_idempotency::Engine::new(MemoryStore::new()).drain(drain).await;",
        "a_proxy_that_is_told_to_stop_lets_what_runs_end_and_begins_nothing",
    ),
    proxy(
        "a-client-goes-over-to-http-2-past-the-proxy",
        FORWARD,
        ".filter(|_| asks).filter(is_websocket)",
        ".filter(|_| asks).filter(|protocol| is_websocket(protocol) || true)",
        "no_protocol_but_websocket_passes",
    ),
    proxy(
        "a-length-beside-chunks-passes",
        FORWARD,
        "if headers.contains_key(TRANSFER_ENCODING) {",
        "if headers.contains_key(TRANSFER_ENCODING) && false {",
        "chunks_say_where_a_body_ends_whatever_its_length_says",
    ),
    proxy(
        "several-hosts-pass",
        FORWARD,
        "        1 => Ok(()),\n",
        "        1.. => Ok(()),\n",
        "a_request_that_two_servers_could_read_in_two_ways_is_refused",
    ),
    proxy(
        "host-counts-more-than-the-target",
        FORWARD,
        "uri.authority().and_then(host)",
        "uri.authority().filter(|_| !headers.contains_key(HOST)).and_then(host)",
        "the_target_says_which_host_a_request_is_for",
    ),
    proxy(
        "a-client-sets-the-key-of-a-step",
        "idempotency/src/proxy/table.rs",
        "let mut hidden = step_keys.to_vec();",
        "let mut hidden = step_keys[..0].to_vec();",
        "no_client_gives_the_service_the_key_of_a_step",
    ),
    proxy(
        "the-first-of-several-names-is-the-client",
        "idempotency/src/proxy/scope/certificate.rs",
        "            [name] => Some(name.clone()),",
        "            [name, ..] => Some(name.clone()),",
        "of_several_common_names_none_is_the_client",
    ),
    proxy(
        "what-has-no-key-is-cut-off-when-the-proxy-stops",
        "idempotency/src/proxy/mod.rs",
        "drain.saturating_sub(since.elapsed())",
        "drain.saturating_sub(since.elapsed()) - drain.saturating_sub(since.elapsed())",
        "the_time_to_drain_is_read_again_and_counts_for_requests_without_a_key",
    ),
    proxy(
        "a-stream-that-was-refused-leaves-a-doubt",
        UPSTREAM,
        "if refused == Some(h2::Reason::REFUSED_STREAM) {",
        "if refused == Some(h2::Reason::REFUSED_STREAM) && false {",
        "a_stream_that_the_service_refuses",
    ),
    proxy(
        "a-stream-that-was-reset-frees-its-key",
        UPSTREAM,
        "if refused == Some(h2::Reason::REFUSED_STREAM) {",
        "if refused.is_some() {",
        "a_stream_that_the_service_refuses",
    ),
    proxy(
        "no-http-2-in-the-handshake",
        "idempotency/src/proxy/tls.rs",
        "vec![b\"h2\".to_vec(), b\"http/1.1\".to_vec()]",
        "vec![b\"http/1.1\".to_vec()]",
        "a_client_may_choose_http_2_in_the_handshake",
    ),
];

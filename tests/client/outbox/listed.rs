//! What was sent, for programs and for operators.

use tower_idempotency::encryption::{EncryptionKey, Keyring};
use tower_idempotency::outbox::CallState;
use tower_idempotency::{Label, ListState, Listing, OperationState, Operator, Watcher};

use super::{call, ids, later, outbox, outbox_over};
use crate::support::lab::{Lab, secs};
use crate::{Does, Remote, responds};

#[tokio::test(start_paused = true)]
async fn each_state_has_its_list_page_by_page() {
    let (lab, remote) = (Lab::new(), Remote::default());
    let mails = outbox(&lab, &remote);
    let mut sent = Vec::new();
    for number in 0..150 {
        sent.push(later(&mails, &format!("mail-{number}")).await);
        mails.run_once().await.unwrap();
        tokio::time::sleep(secs(1)).await;
    }
    sent.reverse();
    let first = mails.list(CallState::Sent, None).await.unwrap();
    let second = mails.list(CallState::Sent, first.next).await.unwrap();
    let listed: Vec<_> = first.calls.iter().chain(&second.calls).collect();
    assert_eq!(listed.iter().map(|call| call.id).collect::<Vec<_>>(), sent, "the latest first");
    assert!(listed.iter().all(|call| call.response.as_ref().is_some_and(|response| response.status() == 200)));
    assert!(listed.windows(2).all(|two| two[0].written > two[1].written && two[0].accepted > two[1].accepted));
    assert_eq!((first.calls.len(), second.next), (100, None));
}

/// What `idempotency list --label outbox=mail` shows.
#[tokio::test(start_paused = true)]
async fn operators_find_calls_by_label_and_watchers_report_what_is_stuck() {
    let (lab, remote) = (Lab::new(), Remote::that([responds(500, &[], ""), Does::Fails, Does::Fails]));
    let mails = outbox(&lab, &remote);
    let (parked, waits) = (later(&mails, "a").await, later(&mails, "b").await);
    mails.run_once().await.unwrap();
    mails.run_once().await.unwrap();
    let operator = Operator::new(lab.store.clone());
    let listed = operator.list(&Listing::new(ListState::Unfinished).label(Label::new("outbox", "mail"))).await.unwrap();
    let shown: Vec<_> = listed.operations.iter().map(|shown| (shown.key, shown.state())).collect();
    assert_eq!(shown, [(waits, OperationState::Waiting), (parked, OperationState::Parked)]);
    assert_eq!(listed.operations[0].labels().get("key"), Some("b"));
    let json = listed.operations[0].to_json();
    let due = json["due"].as_u64().unwrap();
    assert!(due <= json["now"].as_u64().unwrap() + 2_000, "when it is sent, and not where it is filed: {json}");
    assert_eq!(json["request"]["path"], "/payments");
    let attention = operator.list(&Listing::needs_attention()).await.unwrap();
    assert_eq!(attention.operations.iter().map(|shown| shown.key).collect::<Vec<_>>(), [parked]);

    let watcher = Watcher::new(lab.engine());
    let found = watcher.run_once().await;
    assert_eq!(found.open, 1, "{found:?}");
    tokio::time::sleep(secs(16 * 60)).await;
    let found = watcher.run_once().await;
    assert_eq!(found.open, 2, "a call that waits for a quarter of an hour: {found:?}");
}

#[tokio::test(start_paused = true)]
async fn an_encrypted_call_is_sent_and_listed_by_those_who_have_the_key() {
    let (lab, remote) = (Lab::new(), Remote::default());
    // Which has nothing of what is encrypted.
    lab.store.index_labels();
    let ring = || Keyring::new(EncryptionKey::new("k", &std::array::from_fn(|n| n as u8)).unwrap());
    let mails = outbox_over(lab.engine().encryption(ring()), &remote);
    let id = later(&mails, "a").await;
    let without = outbox(&lab, &remote);
    assert_eq!(without.run_once().await.unwrap().failed, 1);
    assert_eq!(lab.events.count("Unreadable"), 1);
    assert_eq!(without.run_once().await.unwrap().failed, 0, "it is said once");
    assert!(remote.seen().is_empty());
    assert_eq!(mails.run_once().await.unwrap().sent, 1);
    assert_eq!(ids(&mails, CallState::Sent).await, [id]);
    assert_eq!(call(&mails, &id).await.key, "a");
}

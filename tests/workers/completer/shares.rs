//! One scope that hangs or floods keeps no other from the completer.

use std::sync::{Arc, Mutex};

use tokio::sync::{Semaphore, oneshot};
use tokio::task::JoinHandle;
use tower_idempotency::core::{Fingerprint, IdempotencyKey, Key, Mode, StoredRequest};
use tower_idempotency::spi::Ledger;
use tower_idempotency::{Background, Completer, CompleterError, IdempotencyLayer, Scope};

use super::BACKOFF;
use crate::support::Count;
use crate::support::lab::{App, Inner, Lab, completer, post, reply, secs, send, serve, with};
use crate::support::settle;

const TENANT: &str = "x-tenant";

/// A layer whose callers each have a scope, and a handler that hangs for the tenants `a` and
/// `c` until its gate opens.
struct Bed {
    lab: Lab,
    layer: IdempotencyLayer,
    app: App,
    ran: Arc<Mutex<Vec<String>>>,
    gate: Arc<Semaphore>,
}

impl Bed {
    fn new(scope: Scope) -> Self {
        Self::with(scope, |layer| layer)
    }

    fn with(scope: Scope, tell: impl FnOnce(IdempotencyLayer) -> IdempotencyLayer) -> Self {
        let lab = Lab::new();
        let layer = tell(IdempotencyLayer::new(lab.engine().backoff(BACKOFF), scope).resumable());
        let (ran, gate) = (Arc::<Mutex<Vec<String>>>::default(), Arc::new(Semaphore::new(0)));
        let (note, door) = (ran.clone(), gate.clone());
        let app = serve(&layer, move |request: Inner| {
            let tenant = request.headers()[TENANT].to_str().unwrap().to_owned();
            note.lock().unwrap().push(tenant.clone());
            let door = door.clone();
            async move {
                if ["a", "c"].contains(&tenant.as_str()) {
                    door.acquire().await.unwrap().forget();
                }
                Ok(reply(201, "done"))
            }
        });
        Self { lab, layer, app, ran, gate }
    }

    fn by_tenant() -> Self {
        Self::new(Scope::header(TENANT.parse().unwrap()))
    }

    /// Claims whose holders died at once.
    async fn crashed(&self, tenant: &str, count: usize) {
        for number in 0..count {
            let parts = with(post("k"), TENANT, tenant).into_parts().0;
            let request = StoredRequest::capture(&parts.method, &parts.uri, &parts.headers, "{}".into());
            let claim = tower_idempotency::core::Claim {
                fingerprint: Fingerprint::of([b"POST".as_slice(), b"/pay", b"", b"", b"{}"]),
                mode: Mode::Resumable,
                lease: secs(60),
                labels: tower_idempotency::Labels::new(),
                request: Some(Arc::new(request)),
            };
            let key = Key::new(tenant, &IdempotencyKey::parse(format!("k{number}").as_bytes()).unwrap());
            Ledger::new(self.lab.store.clone()).apply(&key, None, claim).await.unwrap();
        }
        // The next ones are due later.
        tokio::time::advance(secs(1)).await;
    }

    fn ran(&self, tenant: &str) -> usize {
        self.ran.lock().unwrap().iter().filter(|ran| *ran == tenant).count()
    }

    fn completer(&self) -> Completer {
        completer(&self.layer, &self.app).poll(secs(3600)).deadline(secs(24 * 3600))
    }
}

struct Running(oneshot::Sender<()>, JoinHandle<Result<(), CompleterError>>);

impl Running {
    async fn start(completer: Completer) -> Self {
        let (stop, stopped) = oneshot::channel::<()>();
        let task = tokio::spawn(async move { completer.run(async { stopped.await.unwrap_or(()) }).await });
        // Time is paused: this is until nothing else can happen.
        tokio::time::sleep(secs(1)).await;
        Self(stop, task)
    }

    async fn end(self, bed: &Bed) {
        bed.gate.add_permits(Semaphore::MAX_PERMITS / 2);
        self.0.send(()).unwrap();
        self.1.await.unwrap().unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn a_tenant_that_hangs_leaves_slots_to_one_that_is_due_later() {
    let bed = Bed::by_tenant();
    bed.crashed("a", 16).await;
    bed.crashed("b", 1).await;
    tokio::time::advance(secs(120)).await;
    let running = Running::start(bed.completer()).await;
    assert_eq!((bed.ran("a"), bed.ran("b")), (12, 1), "in one round");
    // A slot of its own is used again at once.
    bed.gate.add_permits(2);
    tokio::time::sleep(secs(1)).await;
    assert_eq!(bed.ran("a"), 14);
    bed.gate.add_permits(14);
    tokio::time::sleep(secs(1)).await;
    assert_eq!(bed.ran("a"), 16);
    running.end(&bed).await;
}

#[tokio::test(start_paused = true)]
async fn two_tenants_that_hang_leave_slots_too() {
    let bed = Bed::by_tenant();
    bed.crashed("a", 16).await;
    bed.crashed("c", 16).await;
    bed.crashed("b", 20).await;
    tokio::time::advance(secs(120)).await;
    let running = Running::start(bed.completer()).await;
    assert_eq!((bed.ran("a"), bed.ran("c"), bed.ran("b")), (12, 3, 20));
    running.end(&bed).await;
}

/// The others are found behind pages of one tenant's, and each of those is looked at once.
#[tokio::test(start_paused = true)]
async fn a_flood_is_looked_at_once_and_passed_over() {
    let bed = Bed::by_tenant();
    bed.crashed("a", 3000).await;
    bed.crashed("b", 30).await;
    tokio::time::advance(secs(120)).await;
    let running = Running::start(bed.completer().assume_guarded()).await;
    assert_eq!((bed.ran("a"), bed.ran("b")), (12, 30));
    assert_eq!(bed.lab.store.loads(), 3030, "one look each, which a claim needs anyway");
    // The next round knows them.
    tokio::time::sleep(secs(2 * 3600)).await;
    assert_eq!(bed.lab.store.loads(), 3030);
    // The flood drains without a wait for the next round.
    bed.gate.add_permits(3000);
    tokio::time::sleep(secs(1)).await;
    assert_eq!(bed.ran("a"), 3000);
    running.end(&bed).await;
}

#[tokio::test(start_paused = true)]
async fn what_is_held_back_is_finished_within_one_call() {
    let bed = Bed::by_tenant();
    bed.crashed("b", 100).await;
    tokio::time::advance(secs(120)).await;
    let report = bed.completer().run_once().await.unwrap();
    assert_eq!((report.found, report.completed, report.skipped), (100, 100, 0), "{report:?}");
}

#[tokio::test(start_paused = true)]
async fn one_scope_for_all_may_use_every_slot() {
    let bed = Bed::new(Scope::shared());
    bed.crashed("a", 20).await;
    tokio::time::advance(secs(120)).await;
    let running = Running::start(bed.completer()).await;
    assert_eq!(bed.ran("a"), 16);
    running.end(&bed).await;
}

/// What is accepted while another tenant hangs is handed over, and takes the same shares.
#[tokio::test(start_paused = true)]
async fn what_is_handed_over_counts_for_its_scope() {
    let scope = Scope::header(TENANT.parse().unwrap());
    let bed = Bed::with(scope, |layer| layer.background(Background::at("/operations").always()));
    let running = Running::start(bed.completer()).await;
    for number in 0..16 {
        assert_eq!(send(&bed.app, with(post(&format!("k{number}")), TENANT, "a")).await.status, 202);
        settle().await;
    }
    assert_eq!(bed.ran("a"), 12);
    assert_eq!(send(&bed.app, with(post("k"), TENANT, "b")).await.status, 202);
    settle().await;
    assert_eq!(bed.ran("b"), 1);
    bed.gate.add_permits(16);
    settle().await;
    assert_eq!(bed.ran("a"), 16, "what waited in line");
    running.end(&bed).await;
}

/// The scope is only in what the hook restores, and it is asked before the claim.
#[tokio::test(start_paused = true)]
async fn a_scope_that_prepare_restores_is_asked_for() {
    #[derive(Clone)]
    struct Tenant(String);
    let bed = Bed::new(Scope::by(|parts| parts.extensions.get::<Tenant>().map(|tenant| tenant.0.clone())));
    bed.crashed("a", 16).await;
    bed.crashed("b", 1).await;
    tokio::time::advance(secs(120)).await;
    let asked = Count::default();
    let count = asked.clone();
    let completer = bed.completer().prepare(move |mut parts| {
        count.up();
        async move {
            let tenant = parts.headers[TENANT].to_str().unwrap().to_owned();
            parts.extensions.insert(Tenant(tenant));
            Ok(parts)
        }
    });
    let running = Running::start(completer).await;
    assert_eq!((bed.ran("a"), bed.ran("b")), (12, 1));
    assert_eq!(asked.get(), 17 + 13, "once to tell whose it is, and once for each attempt");
    running.end(&bed).await;
}

/// A hook that hangs leaves slots as well: what it can't tell counts as one scope.
#[tokio::test(start_paused = true)]
async fn what_has_no_scope_counts_as_one() {
    let bed = Bed::new(Scope::by(|parts| {
        let tenant = parts.headers[TENANT].to_str().ok()?;
        (tenant == "b").then(|| tenant.to_owned())
    }));
    bed.crashed("a", 16).await;
    bed.crashed("b", 1).await;
    tokio::time::advance(secs(120)).await;
    let running = Running::start(bed.completer()).await;
    assert_eq!((bed.ran("a"), bed.ran("b")), (12, 1));
    running.end(&bed).await;
}

#[tokio::test(start_paused = true)]
async fn a_full_queue_of_one_tenant_takes_another_ones() {
    let scope = Scope::header(TENANT.parse().unwrap());
    let background = Background::at("/operations").always().queue(16);
    let bed = Bed::with(scope, |layer| layer.background(background));
    let status = async |tenant: &str, number: usize| {
        send(&bed.app, with(post(&format!("k{number}")), TENANT, tenant)).await.status.as_u16()
    };
    for number in 0..16 {
        assert_eq!(status("a", number).await, if number < 12 { 202 } else { 503 });
    }
    assert_eq!(status("b", 0).await, 202);
    assert_eq!(status("a", 20).await, 503);
    // Once they have run there is room again, without a look at the store.
    let scans = bed.lab.store.scans();
    bed.gate.add_permits(100);
    let running = Running::start(bed.completer()).await;
    assert_eq!((bed.ran("a"), bed.ran("b")), (12, 1));
    running.end(&bed).await;
    let rounds = bed.lab.store.scans() - scans;
    for number in 30..42 {
        assert_eq!(status("a", number).await, 202);
    }
    assert_eq!(bed.lab.store.scans(), scans + rounds);
}

/// What other processes accepted is at most one scope's share of this queue.
#[tokio::test(start_paused = true)]
async fn a_flood_over_several_processes_leaves_room_in_each() {
    let bed = Bed::with(Scope::header(TENANT.parse().unwrap()), |layer| {
        layer.background(Background::at("/operations").always().queue(16))
    });
    bed.crashed("a", 40).await;
    tokio::time::advance(secs(120)).await;
    for number in 0..13 {
        let said = send(&bed.app, with(post(&format!("n{number}")), TENANT, "a")).await.status.as_u16();
        assert_eq!(said, if number < 12 { 202 } else { 503 });
    }
    assert_eq!(send(&bed.app, with(post("n"), TENANT, "b")).await.status, 202);
}

/// The store's list may be longer than a process reads of it: what another process finished
/// counts no longer all the same.
#[tokio::test(start_paused = true)]
async fn what_others_finished_leaves_room_in_front_of_a_flood() {
    let scope = || Scope::header(TENANT.parse().unwrap());
    let bed = Bed::with(scope(), |layer| layer.background(Background::at("/operations").always().queue(16)));
    for number in 0..12 {
        assert_eq!(send(&bed.app, with(post(&format!("n{number}")), TENANT, "a")).await.status, 202);
    }
    let other = IdempotencyLayer::new(bed.lab.engine(), scope()).resumable();
    let app = serve(&other, |_| async { Ok(reply(201, "done")) });
    assert_eq!(completer(&other, &app).run_once().await.unwrap().completed, 12);
    bed.crashed("a", 100).await;
    tokio::time::advance(secs(120)).await;
    let mut taken = 0;
    while taken < 100 && send(&bed.app, with(post("n"), TENANT, &format!("tenant {taken}"))).await.status == 202 {
        taken += 1;
        // The store is asked at most twice a second.
        tokio::time::advance(secs(1)).await;
    }
    assert_eq!(taken, 16, "what is behind the end of the list counts on");
}

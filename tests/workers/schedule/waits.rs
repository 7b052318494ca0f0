//! What waits for what, and what that costs.

use tower_idempotency::maintenance::Covers;

use super::*;

/// A process that only looks on while another one runs or rests: its looks, by record, less those
/// at the windows, which each process takes whatever is scheduled.
async fn looks_of_another(
    schedule: Schedule,
    work: impl Fn(Period, Operation) -> BoxFuture + Clone + Send + Sync + 'static,
) -> Vec<u32> {
    let store = Arc::new(memory());
    let one = start(Arc::clone(&store), schedule.clone(), work.clone());
    tokio::time::sleep(secs(3602)).await;
    let onlooker = Skewed::new(&store, 0);
    let reads = Arc::clone(&onlooker.reads);
    let other = start(onlooker, schedule, work);
    tokio::time::sleep(secs(3000)).await;
    one.abort();
    other.abort();
    let reads = reads.lock().unwrap().clone();
    reads.into_values().filter(|reads| *reads < 500).collect()
}

#[tokio::test(start_paused = true)]
async fn a_process_looks_now_and_then_at_what_another_one_runs() {
    let slow = |_, _| -> BoxFuture {
        Box::pin(async {
            tokio::time::sleep(secs(3500)).await;
            Ok(())
        })
    };
    let looks = looks_of_another(every(3600), slow).await;
    assert!(looks.iter().all(|looks| *looks <= 101), "each 30 seconds: {looks:?}");
    let rests = Backoff::new(secs(3_600_000), secs(3_600_000));
    let looks = looks_of_another(every(3600).backoff(rests), |_, _| Box::pin(async { Err("not yet".into()) })).await;
    assert!(looks.iter().all(|looks| *looks <= 101), "each 30 seconds: {looks:?}");
}

#[tokio::test(start_paused = true)]
async fn a_run_of_many_hours_is_begun_once() {
    let (lab, runs) = (Lab::new(), Runs::default());
    let work = |runs: &Runs| {
        let runs = runs.clone();
        move |period: Period, _| {
            runs.add(&period);
            async {
                tokio::time::sleep(secs(10 * 3600)).await;
                Ok::<_, String>(())
            }
        }
    };
    // What a request may take does not count.
    let engine = || lab.engine().max_execution(secs(60));
    let processes = [(); 2].map(|()| start(engine(), every(12 * 3600), work(&runs)));
    until_the_first_run(&runs).await;
    tokio::time::sleep(secs(11 * 3600)).await;
    assert_eq!((runs.counts(), turns(&lab)), (vec![1], vec![ScheduleTurn::Complete]));
    processes.into_iter().for_each(|process| process.abort());
}

#[tokio::test(start_paused = true)]
async fn what_is_back_filled_keeps_no_period_waiting_for_all_of_it() {
    let (lab, runs) = (Lab::new(), Runs::default());
    let ran = runs.clone();
    let process = start(lab.engine(), every(3600), move |period, _| {
        ran.add(&period);
        async {
            tokio::time::sleep(secs(1200)).await;
            Ok::<_, String>(())
        }
    });
    tokio::time::sleep(secs(60)).await;
    let operator = Operator::new(lab.store.clone());
    let now = operator.schedule("export").await.unwrap().now;
    let ago = Timestamp::from_millis(now.as_millis() - 20 * 3_600_000);
    assert_eq!(operator.back_fill("export", ago, now).await.unwrap().len(), 20);
    tokio::time::sleep(secs(10 * 3600 + 1800)).await;
    assert!(turns(&lab).iter().all(|turn| *turn == ScheduleTurn::Complete), "none is passed over: {:?}", turns(&lab));
    let operator = operator.schedule("export").await.unwrap();
    assert!(operator.asked.is_empty(), "{:?}", operator.asked);
    process.abort();
}

#[tokio::test(start_paused = true)]
async fn a_window_for_the_schedule_alone_opens_no_period_and_counts_against_no_deadline() {
    for lead in [0, 4000] {
        let (lab, runs) = (Lab::new(), Runs::default());
        let process = count(lab.engine(), every(3600).deadline(secs(600)), &runs);
        tokio::time::sleep(secs(60)).await;
        let operator = Operator::new(lab.store.clone());
        let (_, now) = operator.windows().await.unwrap();
        let from = now.after(secs(100 + lead));
        let window = Window::new(from, now.after(secs(4200)), "the mails move").lead(secs(lead));
        operator.plan(window.covers(Covers::Scope("schedule/export".into()))).await.unwrap();
        tokio::time::sleep(secs(4100)).await;
        let shown = operator.schedule("export").await.unwrap();
        assert_eq!((turns(&lab).len(), shown.running), (0, None));
        tokio::time::sleep(secs(150)).await;
        assert_eq!((turns(&lab), runs.counts()), (vec![ScheduleTurn::Complete], vec![1]));
        process.abort();
    }
}

#[tokio::test(start_paused = true)]
async fn none_of_those_that_were_missed_is_none() {
    let (lab, runs) = (Lab::new(), Runs::default());
    let start = || count(lab.engine(), every(3600).missed(Missed::Newest(0)), &runs);
    let process = start();
    tokio::time::sleep(secs(60)).await;
    process.abort();
    tokio::time::sleep(secs(3 * 3600)).await;
    let process = start();
    tokio::time::sleep(secs(60)).await;
    assert_eq!((runs.counts().len(), turns(&lab)), (0, vec![ScheduleTurn::PassedOver { periods: 3 }]));
    tokio::time::sleep(secs(3600)).await;
    assert_eq!(runs.counts(), [1], "what begins now has not been missed");
    process.abort();
}

#[tokio::test(start_paused = true)]
async fn a_process_hears_of_an_operator_within_five_seconds() {
    let (lab, runs) = (Lab::new(), Runs::default());
    let process = count(lab.engine(), every(86_400), &runs);
    let operator = Operator::new(lab.store.clone());
    tokio::time::sleep(secs(60)).await;
    for paused in [false, true] {
        if paused {
            // Then a period falls due, and the process waits for nothing but an operator.
            operator.pause_schedule("export").await.unwrap();
            tokio::time::sleep(secs(90_000)).await;
        }
        for moment in 0..20 {
            tokio::time::sleep(Duration::from_millis(10_000 + 250 * moment)).await;
            let asked = operator.trigger("export").await.unwrap();
            tokio::time::sleep(secs(5)).await;
            assert_eq!(runs.all().get(&asked.begin().as_millis()), Some(&1), "{paused} {moment}");
        }
    }
    process.abort();
}

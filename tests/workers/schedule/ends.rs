//! How runs end, in events, and by their deadline.

use super::*;

/// Events of schedules that need an operator.
fn alarms(lab: &Lab) -> usize {
    let is_alarm = |kind: &EventKind| matches!(kind, EventKind::Schedule { .. }) && kind.needs_attention();
    lab.events.all().iter().filter(|event| is_alarm(&event.kind)).count()
}

#[tokio::test(start_paused = true)]
async fn each_try_that_fails_is_told_and_the_last_one_needs_attention() {
    let (lab, runs) = (Lab::new(), Runs::default());
    let tries = runs.clone();
    // Two processes: what one of them did, one of them tells.
    let work = move |period: Period, _| {
        let first = tries.all().into_keys().next().unwrap_or(u64::MAX);
        tries.add(&period);
        async move { if period.begin().as_millis() <= first { Err("not yet") } else { Ok(()) } }
    };
    let processes = [(); 2].map(|()| start(lab.engine(), every(600).max_tries(3), work.clone()));
    until_the_first_run(&runs).await;
    tokio::time::sleep(secs(900)).await;
    let failed = |tries| ScheduleTurn::Failed { tries };
    assert_eq!(turns(&lab), [failed(1), failed(2), ScheduleTurn::GivenUp { tries: 3 }, ScheduleTurn::Complete]);
    assert_eq!(alarms(&lab), 1);
    let text: Vec<_> = lab.events.all().iter().map(|event| event.kind.to_string()).collect();
    assert!(text.iter().any(|line| line.ends_with(": given up after 3 tries that failed")), "{text:?}");
    // It leads to the operation.
    let is_given_up = |kind: &EventKind| matches!(kind, EventKind::Schedule { turn: ScheduleTurn::GivenUp { .. }, .. });
    let given_up = lab.events.all().into_iter().find(|event| is_given_up(&event.kind)).unwrap();
    assert!(Operator::new(lab.store.clone()).show(&given_up.key.unwrap()).await.is_ok());
    processes.into_iter().for_each(|process| process.abort());
}

#[tokio::test(start_paused = true)]
async fn what_is_in_doubt_and_what_is_passed_over_is_told_once() {
    let (lab, runs) = (Lab::new(), Runs::default());
    let process = start(lab.engine(), every(3600), in_doubt(&runs));
    until_the_first_run(&runs).await;
    tokio::time::sleep(secs(1800)).await;
    let told: Vec<_> = turns(&lab).into_iter().filter(|turn| *turn == ScheduleTurn::InDoubt).collect();
    assert_eq!((told.len(), alarms(&lab)), (1, 1), "{:?}", turns(&lab));
    process.abort();
    tokio::time::sleep(secs(4 * 3600)).await;
    lab.events.clear();
    // Both have looked when the first writes.
    lab.store.fail(|call| if call == Call::Swap(Status::Complete) { Fault::Slow(secs(1)) } else { Fault::None });
    let processes = [(); 2].map(|()| count(lab.engine(), every(3600), &runs));
    tokio::time::sleep(secs(60)).await;
    assert_eq!(turns(&lab), [ScheduleTurn::PassedOver { periods: 3 }, ScheduleTurn::Complete]);
    assert_eq!(alarms(&lab), 0, "it is as the policy has it");
    processes.into_iter().for_each(|process| process.abort());
}

#[tokio::test(start_paused = true)]
async fn a_run_that_is_not_done_by_its_deadline_is_cut_off_and_given_up() {
    let (lab, runs) = (Lab::new(), Runs::default());
    let begun = runs.clone();
    let schedule = every(3600).deadline(secs(600));
    let process = start(lab.engine(), schedule, move |period, _| {
        let is_first = begun.all().is_empty();
        begun.add(&period);
        async move {
            if is_first {
                std::future::pending::<()>().await;
            }
            Ok::<_, String>(())
        }
    });
    until_the_first_run(&runs).await;
    tokio::time::sleep(secs(590)).await;
    assert_eq!(turns(&lab), []);
    tokio::time::sleep(secs(20)).await;
    assert_eq!(turns(&lab), [ScheduleTurn::GivenUp { tries: 1 }]);
    tokio::time::sleep(secs(3600)).await;
    assert_eq!((runs.counts(), turns(&lab).len()), (vec![1, 1], 2), "the next period has its run");
    process.abort();
}

#[tokio::test(start_paused = true)]
async fn no_try_begins_after_the_deadline_whoever_is_left() {
    let (lab, runs) = (Lab::new(), Runs::default());
    let fails = |runs: &Runs| {
        let runs = runs.clone();
        move |period: Period, _| {
            runs.add(&period);
            async { Err::<(), _>("not yet") }
        }
    };
    let pause = Duration::from_secs(200);
    let schedule = || every(7200).max_tries(100).deadline(secs(600)).backoff(Backoff::new(pause, pause));
    let process = start(lab.engine(), schedule(), fails(&runs));
    until_the_first_run(&runs).await;
    process.abort();
    // The next process comes when it is too late.
    tokio::time::sleep(secs(3000)).await;
    let other = start(lab.engine(), schedule(), fails(&runs));
    tokio::time::sleep(secs(60)).await;
    assert_eq!(runs.counts(), [1]);
    assert_eq!(turns(&lab).last(), Some(&ScheduleTurn::GivenUp { tries: 2 }));
    let shown = Operator::new(lab.store.clone()).schedule("export").await.unwrap();
    assert_eq!((shown.running, shown.ended[0].end), (None, End::Failed));
    other.abort();
}

#[tokio::test(start_paused = true)]
async fn what_the_deadline_cuts_off_within_a_step_is_in_doubt_and_goes_on_when_decided() {
    let (lab, runs) = (Lab::new(), Runs::default());
    let begun = runs.clone();
    let process = start(lab.engine(), every(7200).deadline(secs(600)), move |period, op| {
        let begun = begun.clone();
        async move {
            let is_first = begun.add(&period) == 1;
            let mail = op.once("mail", || async move {
                if is_first {
                    std::future::pending::<()>().await;
                }
                Ok::<_, String>(1)
            });
            mail.await.map(drop).map_err(|error| error.to_string())
        }
    });
    until_the_first_run(&runs).await;
    tokio::time::sleep(secs(700)).await;
    let operator = Operator::new(lab.store.clone());
    let shown = operator.schedule("export").await.unwrap();
    assert_eq!((shown.in_doubt.len(), shown.ended.len()), (1, 0), "{:?}", turns(&lab));
    let run = operator.find_of_runner(&shown.scope(), shown.in_doubt[0].name()).await.unwrap();
    operator.resolve(&run, Resolution::DidNotHappen { step: "mail".into() }).await.unwrap();
    tokio::time::sleep(secs(60)).await;
    let shown = operator.schedule("export").await.unwrap();
    assert_eq!((shown.in_doubt.len(), shown.ended[0].end), (0, End::Complete));
    assert_eq!(turns(&lab), [ScheduleTurn::InDoubt, ScheduleTurn::Complete]);
    process.abort();
}

/// A later look finds what no process opened, without one that asks for it.
#[tokio::test(start_paused = true)]
async fn a_period_that_the_first_to_look_could_not_open_is_opened_by_the_next_look() {
    let (lab, runs) = (Lab::new(), Runs::default());
    let process = count(lab.engine(), every(600).missed(Missed::PassOver), &runs);
    until_the_first_run(&runs).await;
    let first = *runs.all().first_key_value().unwrap().0;
    // The store is away when the next one begins, and back half a minute later.
    tokio::time::sleep(secs(580)).await;
    lab.store.down();
    tokio::time::sleep(secs(40)).await;
    lab.store.heal();
    tokio::time::sleep(secs(30)).await;
    assert_eq!(runs.all().into_keys().collect::<Vec<_>>(), [first, first + 600_000]);
    process.abort();
}

//! Runs in doubt: when they are parked, and how they go on once an operator has decided.

use super::*;

const fn rest(seconds: u64) -> Backoff {
    Backoff::new(Duration::from_secs(seconds), Duration::from_secs(seconds))
}

/// The mail is in doubt at first, and refused from then on.
fn refused(runs: &Runs) -> impl Fn(Period, Operation) -> BoxFuture + Send + Sync + 'static {
    let runs = runs.clone();
    move |period, op| {
        let runs = runs.clone();
        Box::pin(async move {
            let mail =
                op.once("mail", || async move { Err::<(), _>(if runs.add(&period) == 1 { "lost" } else { "no" }) });
            mail.harmless_when(|error| *error == "no").await.map_err(|error| error.to_string())
        })
    }
}

#[tokio::test(start_paused = true)]
async fn a_run_that_fails_after_the_decision_rests_and_its_tries_are_counted_anew() {
    let (lab, runs) = (Lab::new(), Runs::default());
    let schedule = every(3600).max_tries(2).deadline(secs(1000)).backoff(rest(200));
    let process = start(lab.engine(), schedule, refused(&runs));
    until_the_first_run(&runs).await;
    // By then it is parked, and its deadline is over.
    tokio::time::sleep(secs(2000)).await;
    decide_about_the_first(&lab, &runs, Resolution::DidNotHappen { step: "mail".into() }).await;
    let mut waited = 0;
    while runs.counts()[0] < 2 {
        tokio::time::sleep(secs(1)).await;
        waited += 1;
    }
    assert!(waited <= 33, "{waited}");
    tokio::time::sleep(secs(1)).await;
    let failed = |tries| ScheduleTurn::Failed { tries };
    assert_eq!(turns(&lab), [failed(1), ScheduleTurn::InDoubt, failed(1)]);
    tokio::time::sleep(secs(210)).await;
    assert_eq!(turns(&lab)[3..], [ScheduleTurn::GivenUp { tries: 2 }]);
    assert_eq!(runs.counts()[0], 3);
    process.abort();
}

#[tokio::test(start_paused = true)]
async fn a_payment_that_stays_in_doubt_is_parked_after_the_last_try() {
    let (lab, runs) = (Lab::new(), Runs::default());
    let paid = runs.clone();
    let process = start(lab.engine(), every(3600).max_tries(3), move |period, op| {
        let paid = paid.clone();
        async move {
            paid.add(&period);
            op.pay("fee", |_| async { Err::<(), _>("no reply") }).await
        }
    });
    until_the_first_run(&runs).await;
    tokio::time::sleep(secs(1800)).await;
    let failed = |tries| ScheduleTurn::Failed { tries };
    assert_eq!((runs.counts(), turns(&lab)), (vec![3], vec![failed(1), failed(2), ScheduleTurn::InDoubt]));
    assert_eq!(lab.events.count("Parked"), 1);
    let operator = Operator::new(lab.store.clone());
    let shown = operator.schedule("export").await.unwrap();
    let run = operator.find_of_runner(&shown.scope(), shown.in_doubt[0].name()).await.unwrap();
    operator.resolve(&run, Resolution::RunAgain).await.unwrap();
    tokio::time::sleep(secs(60)).await;
    assert_eq!((runs.counts(), turns(&lab)[3..].len()), (vec![6], 2), "three more tries, and it is in doubt as before");
    assert_eq!(lab.events.count("Parked"), 2);
    process.abort();
}

#[tokio::test(start_paused = true)]
async fn a_payment_that_the_deadline_cuts_off_is_parked_and_not_begun_again() {
    let (lab, runs) = (Lab::new(), Runs::default());
    let paid = runs.clone();
    let process = start(lab.engine(), every(3600).deadline(secs(600)), move |period, op| {
        let paid = paid.clone();
        async move {
            paid.add(&period);
            op.pay("fee", |_| std::future::pending::<Result<(), String>>()).await
        }
    });
    until_the_first_run(&runs).await;
    tokio::time::sleep(secs(1800)).await;
    assert_eq!((runs.counts(), turns(&lab)), (vec![1], vec![ScheduleTurn::InDoubt]));
    assert_eq!(lab.events.count("Parked"), 1);
    process.abort();
}

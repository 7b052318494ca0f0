//! Schedules that an operator forgets.

use tower_idempotency::OperatorError;

use super::*;

#[tokio::test(start_paused = true)]
async fn a_schedule_that_no_process_has_is_taken_off_the_list_with_its_runs() {
    let (lab, runs) = (Lab::new(), Runs::default());
    let process = count(lab.engine(), every(60), &runs);
    let kept = count(lab.engine(), Schedule::new("audit", Timing::every(secs(86_400)).unwrap()), &runs);
    tokio::time::sleep(secs(30)).await;
    tokio::time::sleep(secs(600)).await;
    process.abort();
    let operator = Operator::new(lab.engine()).by("eve").because("it moved to another service");
    operator.trigger("export").await.unwrap();
    operator.forget_schedule("export").await.unwrap();
    assert_eq!(operator.schedules().await.unwrap(), ["audit"]);
    assert!(matches!(operator.schedule("export").await, Err(OperatorError::NoSuchSchedule)));
    assert!(matches!(operator.forget_schedule("export").await, Err(OperatorError::NoSuchSchedule)));
    assert_eq!(lab.store.len(), 3, "the other cursor, the list, and the record by which processes hear of operators");
    let text: Vec<_> = lab.events.all().iter().map(|event| event.kind.to_string()).collect();
    assert!(text.contains(&"eve decided: forget a schedule; it moved to another service".to_owned()), "{text:?}");
    kept.abort();
}

#[tokio::test(start_paused = true)]
async fn a_process_that_still_has_it_begins_it_anew() {
    let (lab, runs) = (Lab::new(), Runs::default());
    let process = count(lab.engine(), every(3600), &runs);
    until_the_first_run(&runs).await;
    tokio::time::sleep(secs(3700)).await;
    let operator = Operator::new(lab.store.clone());
    operator.pause_schedule("export").await.unwrap();
    operator.forget_schedule("export").await.unwrap();
    tokio::time::sleep(secs(30)).await;
    let shown = operator.schedule("export").await.unwrap();
    assert_eq!((shown.ended.len(), shown.paused, operator.schedules().await.unwrap().len()), (0, None, 1));
    tokio::time::sleep(secs(3600)).await;
    assert_eq!(runs.counts(), [1, 1, 1]);
    process.abort();
}

#[tokio::test(start_paused = true)]
async fn what_a_clock_far_ahead_has_done_is_set_right() {
    let store = Arc::new(memory());
    let (ahead, runs) = (Runs::default(), Runs::default());
    let right = count(Arc::clone(&store), every(3600), &runs);
    tokio::time::sleep(secs(30)).await;
    let wrong = count(Skewed::new(&store, 30 * 86_400), every(3600), &ahead);
    until_the_first_run(&ahead).await;
    wrong.abort();
    tokio::time::sleep(secs(86_400)).await;
    assert!(runs.all().is_empty(), "no period is opened twice: {:?}", runs.all());
    Operator::new(Arc::clone(&store)).forget_schedule("export").await.unwrap();
    tokio::time::sleep(secs(7200)).await;
    assert_eq!(runs.counts(), [1, 1], "it begins anew");
    right.abort();
}

/// Nothing is known of the call that was cut off there: the operator makes it again.
#[tokio::test(start_paused = true)]
async fn what_was_forgotten_in_part_is_forgotten_by_the_next_call() {
    for call in 0.. {
        let (lab, runs) = (Lab::new(), Runs::default());
        let process = count(lab.engine(), every(60), &runs);
        tokio::time::sleep(secs(200)).await;
        process.abort();
        let operator = Operator::new(lab.store.clone());
        let mut left = call;
        lab.store.fail(move |call| match call {
            Call::Swap(_) | Call::Remove if left == 0 => Fault::Before(StoreErrorKind::Corrupt),
            Call::Swap(_) | Call::Remove => {
                left -= 1;
                Fault::None
            }
            _ => Fault::None,
        });
        let forgot = operator.forget_schedule("export").await;
        lab.store.heal();
        if forgot.is_ok() {
            assert!(call >= 4, "three runs, the cursor, and the list: {call}");
            break;
        }
        let again = operator.forget_schedule("export").await;
        assert!(matches!(again, Ok(()) | Err(OperatorError::NoSuchSchedule)), "{again:?}");
        assert!(operator.schedules().await.unwrap().is_empty());
        assert!(lab.store.len() <= 2, "the list, and the record by which processes hear of operators");
    }
}

#[tokio::test(start_paused = true)]
async fn one_of_which_a_run_has_not_ended_is_not_forgotten() {
    let (lab, runs) = (Lab::new(), Runs::default());
    let process = start(lab.engine(), every(3600), in_doubt(&runs));
    until_the_first_run(&runs).await;
    tokio::time::sleep(secs(600)).await;
    process.abort();
    let operator = Operator::new(lab.store.clone());
    assert!(matches!(operator.forget_schedule("export").await, Err(OperatorError::Unfinished)));
    let shown = operator.schedule("export").await.unwrap();
    assert_eq!(shown.in_doubt.len(), 1);
    let response = StoredResponse::capture(StatusCode::OK, &HeaderMap::new(), None);
    let run = operator.find_of_runner(&shown.scope(), shown.in_doubt[0].name()).await.unwrap();
    let respond = Resolution::Respond { response: Arc::new(response), retention: secs(3600) };
    operator.resolve(&run, respond).await.unwrap();
    operator.forget_schedule("export").await.unwrap();
    assert!(operator.find_of_runner(&shown.scope(), shown.in_doubt[0].name()).await.is_err(), "its record is gone");
    assert!(operator.schedules().await.unwrap().is_empty());
}

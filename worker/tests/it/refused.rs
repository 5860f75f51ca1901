//! Ends of attempts that Redis refuses to record: the job is dead with the reason, and does not run again and again.

use lanekeeper_queue::library_source;
use lanekeeper_queue::testing::clock;
use lanekeeper_queue::types::{EnqueueOptions, ErrorClass, JobState, NewJob};
use lanekeeper_worker::handler::{Answer, code};

use crate::common::{Bed, Settings, does, policy};

#[tokio::test]
async fn an_answer_that_asks_for_too_many_jobs_is_a_death_and_holds_up_no_other() {
    let bed = Bed::new(&policy()).await;
    let engine = bed.engine(
        Settings::default(),
        does(|peek| async move {
            let options = EnqueueOptions { job_type: "report".into(), ..EnqueueOptions::default() };
            let report = NewJob { payload: b"1".to_vec(), options };
            let count = std::str::from_utf8(&peek.payload).unwrap().parse().unwrap();
            let follow_ups = vec![report.clone(); count];
            Ok(Answer { result: Vec::new(), follow_ups })
        }),
    );
    let ids = bed.enqueue("mail", &[b"1000", b"101", b"100", b"0"]).await;
    for id in &ids[..2] {
        let job = bed.becomes(id, JobState::Dead).await;
        let error = job.history[0].error.clone().unwrap();
        assert_eq!((job.attempts, error.code.as_str()), (1, code::FOLLOW_UP_REFUSED));
        assert!(error.message.contains("may enqueue 100 jobs"), "{}", error.message);
    }
    for id in &ids[2..] {
        assert_eq!(bed.becomes(id, JobState::Succeeded).await.attempts, 1);
    }
    engine.stop().await.unwrap();
}

#[tokio::test]
async fn an_end_that_redis_always_refuses_is_a_death_that_says_so() {
    let bed = Bed::new(&policy()).await;
    let check = "wrong or lk.too_many_follow_ups(list)";
    let poisoned = "(string.find(args[2], 'poison', 1, true) and lk.error('LKLIMIT', 'no such end'))";
    let source = library_source().replace(check, &format!("{check} or {poisoned}"));
    assert_eq!(source.matches(poisoned).count(), 2, "settlements alone and before a claim");
    clock::load(&mut bed.queue.connection(), &source).await.unwrap();
    let engine = bed.engine(Settings::default(), does(|peek| async move { Ok(Answer::plain(peek.payload)) }));
    let ids = bed.enqueue("mail", &[b"poison", b"well"]).await;
    bed.becomes(&ids[1], JobState::Succeeded).await;
    let job = bed.becomes(&ids[0], JobState::Dead).await;
    let error = job.history[0].error.clone().unwrap();
    assert_eq!((job.attempts, error.class), (1, ErrorClass::Ambiguous));
    assert_eq!(error.code, code::SETTLEMENT_REFUSED);
    assert!(error.message.contains("no such end"), "{}", error.message);
    engine.stop().await.unwrap();
}

//! Members and the sessions that they own.

use std::collections::BTreeSet;
use std::sync::Arc;

use spaces_bridge::domain::ErrorClass;
use spaces_bridge::store::{Appended, DocKind, Expected, Fence, Heartbeat, Settled, Verdict, Wanted};

use super::contract;
use super::harness::{TTL, document, event, event_for, fence, ownership, request, seconds, session};

contract! {
    async fn a_fence_is_refused_after_a_takeover(store) {
        store.clock.turn(15_000);
        let second = store.engine.join("http://two.internal", TTL).await.expect("joining works");
        assert!(second.incarnation > store.member.incarnation, "an incarnation was given out twice");
        let taken = fence(&*store.engine, second.incarnation).await;
        assert_eq!(taken.ownership.epoch, store.fence.ownership.epoch + 1);
        let refused = store.engine.append(store.fence.clone(), vec![event(1)]).await.expect("appending works");
        assert_eq!(refused, Appended::Fenced);
        let durable = store.engine.append(taken, vec![event(1)]).await.expect("appending works");
        assert_eq!(durable, Appended::Durable(vec![true]), "the refused append left something behind");
    }

    async fn a_fence_needs_owner_and_epoch(store) {
        let wrong_epoch = Fence { ownership: ownership("main", 2), ..store.fence.clone() };
        let wrong_session = Fence { ownership: ownership("other", 1), ..store.fence.clone() };
        for fence in [wrong_epoch, wrong_session] {
            assert_eq!(store.engine.append(fence, vec![event(1)]).await.expect("appending works"), Appended::Fenced);
        }
    }

    async fn a_new_member_ends_the_one_before(store) {
        let second = store.engine.join("http://two.internal", TTL).await.expect("joining works");
        let answer = store.engine.heartbeat(store.member.incarnation).await.expect("heartbeats work");
        assert_eq!(answer, Heartbeat::Gone);
        assert_eq!(store.engine.owner(&session("main")).await.expect("reading works"), None);
        let gone = store.engine.acquire(store.member.incarnation, Wanted::Session(session("main"))).await;
        assert_eq!(gone.expect("acquiring works"), [], "a member that is gone took a session");
        let alive = store.engine.heartbeat(second.incarnation).await.expect("heartbeats work");
        assert_eq!(alive, Heartbeat::Alive(second.valid_until));
    }

    async fn a_late_heartbeat_revives_a_member(store) {
        store.clock.turn(20_000);
        let owner = store.engine.owner(&session("main")).await.expect("reading works").expect("there is an owner");
        assert!(!owner.live, "an expired member counts as live");
        let alive = store.engine.heartbeat(store.member.incarnation).await.expect("heartbeats work");
        assert_eq!(alive, Heartbeat::Alive(store.now().saturating_add(TTL)));
        let owner = store.engine.owner(&session("main")).await.expect("reading works").expect("there is an owner");
        assert!(owner.live);
        assert_eq!(owner.address, "http://one.internal");
        assert_eq!(store.append(vec![event(1)]).await, [true]);
    }

    async fn a_session_that_is_owned_already_comes_back_with_its_epoch(store) {
        let again = store.engine.acquire(store.member.incarnation, Wanted::Session(session("main"))).await;
        assert_eq!(again.expect("acquiring works"), std::slice::from_ref(&store.fence.ownership));
    }

    async fn a_session_given_back_gets_a_new_epoch(store) {
        let stale = [ownership("main", 7)];
        assert_eq!(store.engine.release(store.member.incarnation, &stale).await.expect("releasing works"), 0);
        let held = [store.fence.ownership.clone()];
        assert_eq!(store.engine.release(store.member.incarnation, &held).await.expect("releasing works"), 1);
        assert_eq!(store.engine.owner(&session("main")).await.expect("reading works"), None);
        assert_eq!(store.engine.append(store.fence.clone(), vec![event(1)]).await.expect("appending works"), Appended::Fenced);
        assert_eq!(fence(&*store.engine, store.member.incarnation).await.ownership, ownership("main", 2));
    }

    async fn stored_sessions_are_those_with_a_token(store) {
        let tokens = ["main", "b", "a"].map(|name| document(DocKind::Token, session(name).as_str(), "sealed"));
        store.engine.doc_put(tokens.to_vec()).await.expect("writing works");
        let mut expired = document(DocKind::Token, session("late").as_str(), "sealed");
        expired.expires_at = Some(store.now());
        store.engine.doc_put(vec![expired]).await.expect("writing works");
        let taken = store.engine.acquire(store.member.incarnation, Wanted::Stored(1)).await.expect("acquiring works");
        assert_eq!(taken, [ownership("a", 1)]);
        let taken = store.engine.acquire(store.member.incarnation, Wanted::Stored(10)).await.expect("acquiring works");
        assert_eq!(taken, [ownership("b", 1)], "all but the session that is owned already and the one whose token expired");
    }

    async fn takers_at_once_never_get_the_same_session_and_epoch(store) {
        let tokens = (0..60).map(|number| document(DocKind::Token, session(&number.to_string()).as_str(), "sealed"));
        store.engine.doc_put(tokens.collect()).await.expect("writing works");
        let mut takers = tokio::task::JoinSet::new();
        for _ in 0..8 {
            let (engine, incarnation) = (Arc::clone(&store.engine), store.member.incarnation);
            takers.spawn(async move {
                let mut all = Vec::new();
                loop {
                    let taken = engine.acquire(incarnation, Wanted::Stored(3)).await.expect("acquiring works");
                    if taken.is_empty() {
                        return all;
                    }
                    all.extend(taken);
                }
            });
        }
        let taken = takers.join_all().await.concat();
        assert_eq!(taken.len(), 60);
        assert_eq!(taken.into_iter().collect::<BTreeSet<_>>().len(), 60);
    }

    async fn leaving_frees_sessions_and_claims(store) {
        store.append(vec![event_for(1, "a")]).await;
        let claim = store.claim_one().await;
        store.engine.leave(store.member.incarnation).await.expect("leaving works");
        assert_eq!(store.engine.owner(&session("main")).await.expect("reading works"), None);
        assert_eq!(store.settle(&claim, Verdict::Delivered).await, Settled::Stale);
        assert_eq!(store.claim(1).await, [], "a member that has left got work");
        let second = store.engine.join("http://two.internal", TTL).await.expect("joining works");
        let claims = store.engine.claim(request(second.incarnation, 1, 8)).await.expect("claiming works");
        assert_eq!((claims[0].delivery, claims[0].attempt), (claim.delivery, 2));
    }

    async fn joining_gives_back_what_the_member_before_had_claimed(store) {
        store.append(vec![event_for(1, "a"), event_for(2, "a")]).await;
        let lost = store.claim(2).await;
        store.clock.turn(1_000);
        let second = store.engine.join("http://two.internal", TTL).await.expect("joining works");
        assert_eq!(store.settle(&lost[0], Verdict::Delivered).await, Settled::Stale);
        let attempts = store.attempts(lost[0].delivery).await;
        assert_eq!(attempts.len(), 1);
        assert_eq!(attempts[0].outcome.error, Some(ErrorClass::Unknown));
        assert_eq!(attempts[0].started_at, lost[0].claimed_at);
        let mut claims = store.engine.claim(request(second.incarnation, 10, 8)).await.expect("claiming works");
        claims.sort_by_key(|claim| claim.delivery);
        let attempts: Vec<_> = claims.iter().map(|claim| (claim.delivery, claim.attempt)).collect();
        assert_eq!(attempts, [(lost[0].delivery, 2), (lost[1].delivery, 2)]);
    }

    async fn a_token_that_is_deleted_ends_the_wish_for_its_session(store) {
        let token = document(DocKind::Token, session("a").as_str(), "sealed");
        store.engine.doc_put(vec![token.clone()]).await.expect("writing works");
        let gone = spaces_bridge::store::DocWrite { body: None, expected: Expected::Any, ..token };
        store.engine.doc_put(vec![gone]).await.expect("writing works");
        store.clock.turn(i64::try_from(seconds(60).as_millis()).expect("a minute is short"));
        let found = store.engine.acquire(store.member.incarnation, Wanted::Stored(10)).await.expect("acquiring works");
        assert_eq!(found, []);
    }
}

//! Small documents.

use spaces_bridge::store::{DocKind, DocList, DocWrite, Document, Expected, PutOutcome, Version};

use super::contract;
use super::harness::{Store, account, document, seconds};

async fn put(store: &Store, writes: Vec<DocWrite>) -> PutOutcome {
    store.engine.doc_put(writes).await.expect("writing works")
}

async fn get(store: &Store, id: &str) -> Option<Document> {
    store.engine.doc_get(DocKind::Webhook, id).await.expect("reading works")
}

fn webhook_document(id: &str, body: &str, expected: Expected) -> DocWrite {
    DocWrite { expected, ..document(DocKind::Webhook, id, body) }
}

fn deletion(id: &str, expected: Expected) -> DocWrite {
    DocWrite { body: None, ..webhook_document(id, "", expected) }
}

fn stored(versions: &[i64]) -> PutOutcome {
    PutOutcome::Stored(versions.iter().copied().map(Version).collect())
}

contract! {
    async fn a_document_counts_its_writes(store) {
        assert_eq!(put(store, vec![webhook_document("a", "one", Expected::Absent)]).await, stored(&[1]));
        assert_eq!(put(store, vec![webhook_document("a", "two", Expected::Version(Version(1)))]).await, stored(&[2]));
        assert_eq!(put(store, vec![webhook_document("a", "three", Expected::Any)]).await, stored(&[3]));
        let kept = get(store, "a").await.expect("the document is there");
        assert_eq!((&kept.body[..], kept.version), (&b"three"[..], Version(3)));
        assert_eq!(store.engine.doc_get(DocKind::Send, "a").await.expect("reading works"), None, "kinds were mixed up");
    }

    async fn a_write_on_a_wrong_expectation_changes_nothing(store) {
        put(store, vec![webhook_document("a", "one", Expected::Any)]).await;
        for expected in [Expected::Absent, Expected::Version(Version(2))] {
            assert_eq!(put(store, vec![webhook_document("a", "two", expected)]).await, PutOutcome::Conflict(0));
        }
        let missing = webhook_document("b", "x", Expected::Version(Version(1)));
        assert_eq!(put(store, vec![missing]).await, PutOutcome::Conflict(0));
        assert_eq!(&get(store, "a").await.expect("the document is there").body[..], b"one");
    }

    async fn several_writes_are_one(store) {
        put(store, vec![webhook_document("a", "one", Expected::Any)]).await;
        let mixed = vec![
            webhook_document("b", "new", Expected::Absent),
            deletion("a", Expected::Any),
            webhook_document("c", "x", Expected::Version(Version(1))),
        ];
        assert_eq!(put(store, mixed).await, PutOutcome::Conflict(2));
        assert!(get(store, "a").await.is_some() && get(store, "b").await.is_none(), "half of the writes were made");
        let chained = vec![
            webhook_document("b", "one", Expected::Absent),
            webhook_document("b", "two", Expected::Version(Version(1))),
            deletion("a", Expected::Version(Version(1))),
        ];
        assert_eq!(put(store, chained).await, stored(&[1, 2, 1]));
        assert!(get(store, "a").await.is_none());
    }

    async fn a_deleted_document_is_absent(store) {
        assert_eq!(put(store, vec![deletion("a", Expected::Any)]).await, stored(&[0]));
        put(store, vec![webhook_document("a", "one", Expected::Any)]).await;
        put(store, vec![webhook_document("a", "two", Expected::Any)]).await;
        assert_eq!(put(store, vec![deletion("a", Expected::Version(Version(2)))]).await, stored(&[2]));
        assert_eq!(put(store, vec![webhook_document("a", "again", Expected::Absent)]).await, stored(&[1]));
    }

    async fn an_expired_document_counts_as_absent(store) {
        let expiring = DocWrite {
            expires_at: Some(store.now().saturating_add(seconds(10))),
            ..webhook_document("a", "short-lived", Expected::Absent)
        };
        assert_eq!(put(store, vec![expiring.clone()]).await, stored(&[1]));
        store.clock.turn(9_999);
        assert_eq!(put(store, vec![expiring.clone()]).await, PutOutcome::Conflict(0));
        assert!(get(store, "a").await.is_some());
        store.clock.turn(1);
        assert!(get(store, "a").await.is_none());
        let list = DocList { kind: DocKind::Webhook, account: None, after: None, limit: 10 };
        assert_eq!(store.engine.doc_list(list).await.expect("reading works"), []);
        assert_eq!(put(store, vec![webhook_document("a", "new", Expected::Absent)]).await, stored(&[1]));
    }

    async fn documents_are_listed_in_pages_by_kind_and_account(store) {
        let owned = |id: &str, owner: &str| DocWrite {
            account: Some(account(owner)),
            ..webhook_document(id, "x", Expected::Any)
        };
        put(store, vec![owned("c", "ada"), owned("a", "ada"), owned("b", "bob"), owned("d", "ada")]).await;
        put(store, vec![document(DocKind::Send, "a", "x")]).await;
        let list = async |owner: Option<&str>, after: Option<&str>, limit| {
            let list = DocList {
                kind: DocKind::Webhook,
                account: owner.map(account),
                after: after.map(str::to_owned),
                limit,
            };
            let found = store.engine.doc_list(list).await.expect("reading works");
            found.into_iter().map(|document| document.id).collect::<Vec<_>>()
        };
        assert_eq!(list(None, None, 10).await, ["a", "b", "c", "d"]);
        assert_eq!(list(Some("ada"), None, 2).await, ["a", "c"]);
        assert_eq!(list(Some("ada"), Some("c"), 2).await, ["d"]);
        assert_eq!(list(Some("eve"), None, 2).await, [""; 0]);
    }

    async fn writers_at_once_on_one_version_win_once(store) {
        put(store, vec![webhook_document("a", "one", Expected::Any)]).await;
        let mut writers = tokio::task::JoinSet::new();
        for writer in 0..8 {
            let engine = std::sync::Arc::clone(&store.engine);
            let write = webhook_document("a", &format!("by {writer}"), Expected::Version(Version(1)));
            writers.spawn(async move { engine.doc_put(vec![write]).await.expect("writing works") });
        }
        let outcomes = writers.join_all().await;
        assert_eq!(outcomes.iter().filter(|outcome| **outcome == stored(&[2])).count(), 1);
    }
}

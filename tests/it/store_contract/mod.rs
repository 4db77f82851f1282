//! One suite for every back end of the store: each test of a `contract!` runs on all of them, on a clock that the test turns.

mod append;
mod claiming;
mod crash;
mod documents;
mod embedded;
mod flows;
mod harness;
mod log;
mod ordering;
mod ownership;
mod requeue;
mod state_machine;

/// Runs each test on every back end.
macro_rules! contract {
    ($(async fn $name:ident($store:ident) $body:block)*) => {
        $(
            mod $name {
                #[expect(clippy::allow_attributes, reason = "not every test needs every name of the suite")]
                #[allow(unused_imports)]
                use super::*;

                async fn check($store: &crate::store_contract::harness::Store) $body

                #[tokio::test]
                async fn in_memory() {
                    check(&crate::store_contract::harness::Store::memory().await).await;
                }

                #[tokio::test]
                async fn embedded() {
                    check(&crate::store_contract::harness::Store::embedded().await).await;
                }
            }
        )*
    };
}

pub(crate) use contract;

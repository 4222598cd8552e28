//! Requests that one server signs and the other checks.

use ruma::{ServerName, UserId, event_id};
use serde_json::json;
use yurt::actions::{
    Actions, Caller, Window,
    peers::{self, KnownPeer, PeerError},
};

use super::{eventually, partner::Partner, synapse::synapse};
use crate::client::{encoded, text};

/// What our administrators see of another server.
async fn seen(actions: &Actions, name: &ServerName) -> Option<KnownPeer> {
    let admin = Caller::local(&UserId::parse(format!("@root:{}", actions.server_name)).unwrap(), true);
    let page = peers::list(actions, &admin, None, Window::ALL).await.unwrap();
    page.entries.into_iter().find(|peer| peer.server == name)
}

#[tokio::test]
async fn each_accepts_requests_that_the_other_signed() {
    let Some(synapse) = synapse() else { return };
    // Others cut the link.
    let _turn = synapse.turns.acquire().await.unwrap();
    let partner = Partner::of(synapse).await;
    {
        let (alice, rita) = (partner.account("alice").await, synapse.account(&super::unique("rita")).await);
        alice.put("/v1/me/profile", json!({ "display_name": "Alice" })).await.ok();
        let profile = rita.get(&format!("profile/{}", encoded(&alice.id))).await.unwrap();
        assert_eq!(text(&profile["displayname"]), "Alice", "{profile}");
        let actions = partner.actions().await;
        eventually("a request of Synapse was found to be signed by it", async || {
            seen(&actions, &synapse.name).await.is_some_and(|peer| peer.last_seen.is_some())
        })
        .await;
        // It looks for the event, so it has accepted the signature.
        let asked =
            actions.peers().event(&synapse.name, event_id!("$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA")).await;
        assert!(matches!(asked, Err(PeerError::Refused(_))), "{asked:?}");
        let (_, said) = seen(&actions, &synapse.name).await.unwrap().last_error.unwrap();
        assert!(said.starts_with("answered 404"), "{said}");
    }
    partner.stop().await;
}

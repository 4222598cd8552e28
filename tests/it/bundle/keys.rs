//! Keys that only a bundle vouches for, where the server whose keys they are cannot be asked.

use serde_json::json;

use super::{bundle_of, import::upload};
use crate::{
    client::encoded,
    federation::servers::{Authority, Server},
};

#[tokio::test]
async fn keys_that_an_admin_has_believed_of_one_room_count_for_no_other() {
    let authority = Authority::new();
    let (mut old, new) = (Server::new(&authority).await, Server::new(&authority).await);
    let alice = old.account("alice").await;
    let (tents, boats) = (alice.group("Tents").await, alice.group("Boats").await);
    let (of_tents, of_boats) = (bundle_of(&alice, &tents).await, bundle_of(&alice, &boats).await);
    let (carol, root) = (new.account("carol").await, new.admin("root").await);
    old.stop().await;
    let believing = json!({ "accept_bundle_keys": true });
    upload(&carol, &of_tents, believing.clone()).await.refused(403, "SW_AUTH_INSUFFICIENT_PERMISSION");
    for (bundle, whoever) in [(&of_tents, &carol), (&of_tents, &root), (&of_boats, &root)] {
        let refused = upload(whoever, bundle, json!({})).await.refused(400, "SW_ROOM_IMPORT_REFUSED");
        assert!(refused["message"].as_str().unwrap().contains(old.name().as_str()), "{refused}");
    }
    assert_eq!(upload(&root, &of_tents, believing.clone()).await.created()["outcome"], "succeeded");
    // For that room they count from now on, whoever brings it.
    assert_eq!(upload(&carol, &of_tents, json!({})).await.created()["outcome"], "succeeded");
    for whoever in [&carol, &root] {
        let refused = upload(whoever, &of_boats, json!({})).await.refused(400, "SW_ROOM_IMPORT_REFUSED");
        assert!(refused["message"].as_str().unwrap().contains(old.name().as_str()), "{refused}");
        root.get(&format!("/v1/admin/rooms/{}/export", encoded(&boats))).await.no_such_room();
    }
    upload(&root, &of_boats, believing).await.created();
}

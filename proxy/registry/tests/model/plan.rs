//! What may happen, as numbers: they are taken modulo what there is at that moment.

use proptest::prelude::*;

/// Images: the first two in one Local, the third in another.
pub(crate) const IMAGES: usize = 3;
/// Bodies that may be pushed.
pub(crate) const BODIES: usize = 6;
/// Tags of each image.
pub(crate) const TAGS: usize = 3;

/// How a blob is sent.
#[derive(Clone, Debug)]
pub(crate) enum Form {
    /// In one request that begins and ends it.
    Whole,
    /// In pieces of this many thousandths of the body, the last one with or without bytes.
    Pieces(u16, bool),
    /// Named by its SHA-512, announced at the beginning or not.
    Sha512(bool),
    /// The pieces are sent, the first one twice, as after a lost answer.
    Retried(u16),
}

/// One operation.
#[derive(Clone, Debug)]
pub(crate) enum Op {
    Push {
        image: usize,
        body: usize,
        form: Form,
    },
    WrongDigest {
        image: usize,
        body: usize,
    },
    Abandon {
        image: usize,
        body: usize,
        cancel: bool,
    },
    Mount {
        from: Option<usize>,
        image: usize,
        body: usize,
    },
    Manifest {
        image: usize,
        layers: Vec<usize>,
        tag: Option<usize>,
        subject: Option<usize>,
        salt: u8,
    },
    Index {
        image: usize,
        children: Vec<usize>,
        tag: Option<usize>,
    },
    Tag {
        image: usize,
        manifest: usize,
        tag: usize,
    },
    DeleteTag {
        image: usize,
        tag: usize,
    },
    DeleteManifest {
        image: usize,
        manifest: usize,
    },
    DeleteBlob {
        image: usize,
        body: usize,
    },
    /// Sweeps and collects; `at_once`: what is not needed goes now.
    Collect {
        at_once: bool,
    },
    /// Manifests that nothing holds go now.
    Expire,
}

pub(crate) fn operation() -> impl Strategy<Value = Op> {
    let image = 0..IMAGES;
    // The last one is large, and therefore rare.
    let body = prop_oneof![15 => 0..BODIES - 1, 1 => Just(BODIES - 1)];
    let form = prop_oneof![
        4 => Just(Form::Whole),
        4 => (1_u16..1000, any::<bool>()).prop_map(|(part, with)| Form::Pieces(part, with)),
        1 => any::<bool>().prop_map(Form::Sha512),
        1 => (1_u16..1000).prop_map(Form::Retried),
    ];
    let tag = 0..TAGS;
    let some = 0..100_usize;
    prop_oneof![
        8 => (image.clone(), body.clone(), form).prop_map(|(image, body, form)| Op::Push { image, body, form }),
        1 => (image.clone(), body.clone()).prop_map(|(image, body)| Op::WrongDigest { image, body }),
        1 => (image.clone(), body.clone(), any::<bool>())
            .prop_map(|(image, body, cancel)| Op::Abandon { image, body, cancel }),
        3 => (proptest::option::of(image.clone()), image.clone(), body.clone())
            .prop_map(|(from, image, body)| Op::Mount { from, image, body }),
        6 => (
            image.clone(),
            proptest::collection::vec(body.clone(), 1..4),
            proptest::option::of(tag.clone()),
            proptest::option::weighted(0.2, some.clone()),
            any::<u8>(),
        )
            .prop_map(|(image, layers, tag, subject, salt)| Op::Manifest { image, layers, tag, subject, salt }),
        3 => (image.clone(), proptest::collection::vec(some.clone(), 1..3), proptest::option::of(tag.clone()))
            .prop_map(|(image, children, tag)| Op::Index { image, children, tag }),
        2 => (image.clone(), some.clone(), tag.clone())
            .prop_map(|(image, manifest, tag)| Op::Tag { image, manifest, tag }),
        2 => (image.clone(), tag).prop_map(|(image, tag)| Op::DeleteTag { image, tag }),
        2 => (image.clone(), some).prop_map(|(image, manifest)| Op::DeleteManifest { image, manifest }),
        2 => (image, body).prop_map(|(image, body)| Op::DeleteBlob { image, body }),
        2 => any::<bool>().prop_map(|at_once| Op::Collect { at_once }),
        1 => Just(Op::Expire),
    ]
}

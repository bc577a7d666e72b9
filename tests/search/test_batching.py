from gradrev_jax.search.batching import CHUNK_BYTES, reference_chunk_size


def test_many_references_are_split_into_equal_chunks():
    assert reference_chunk_size(200, 1) == 256
    assert reference_chunk_size(1581, 1) == 800
    assert reference_chunk_size(1581, CHUNK_BYTES // 300) == 272
    assert reference_chunk_size(1025, 1) == 528


def test_every_thread_has_as_many_chunks_as_the_others():
    assert reference_chunk_size(1581, 1, workers=2) == 800
    assert reference_chunk_size(1024, 1, workers=2) == 512
    assert reference_chunk_size(2100, 1, workers=2) == 528
    assert reference_chunk_size(1581, CHUNK_BYTES // 1200, workers=2) == 400

"""Two networks on the same data, blob by blob: `comparison` is the entry, and each step has its modules.

What is compared
    models                         a network as ONNX, with the layer that writes each of its blobs
    unrunnable_layers              layers of Caffe that cannot be run, and those behind them
    assumed_shapes                 shapes of what unknown layers make
    incomparable_nodes             nodes of ONNX that draw, or make no numbers
    pairing, layer_names           which blob is the partner of which: by its name, and by the layers around it
    matched                        a candidate beside the reference
    bodies                         bodies of If, Loop and Scan, as networks of their own
    pairs                          tables of models

What they are fed
    batches, widening              samples as runs, and more of them at once than a network says
    noise, standins                which noise, and what goes into inputs that are no images
    open_sizes, rows               sizes that a model leaves open, runs at others, and whether rows need any

How they run
    engine, planning, memory       the pass over the data, within the memory that there is
    isolated, threads              a process of its own; threads that Ctrl-C cannot leave waiting
    checkpoint, cluster            a state that is kept; other machines

What is measured
    kernels, backends              the sums over a pair of blobs, and the libraries that make them
    compiled, compiled_cuda        the same in machine code
    metrics, measure, merging      the figures of a blob; all that was found, in parts that merge
    classify, detect, saturation   answers, boxes, and outputs that say little

What rounding explains
    rounding, exact, stretches     held against a float64 run: whole blobs, and each stretch of layers
    ties, pointers                 indices that differ on equal values

What is proved, and what is not
    gates, records, reporting      the conditions, the records, and the report that is made of them
    divergence, bisection          the layer at fault
    unproved, hidden_channels      what the data never reached
    hidden_differences, probing    layers with other settings of which nothing was seen
    conditioning                   folds that lose more than the tolerance in float32

In all of them `ours` and `theirs` are the reference and the candidate, and `first` and `second` what either gave.
`pairs` says blob of the reference -> blob of the candidate; `partners` has the inputs, too. `layout` is what a run
takes, `data` the samples, and a `store` has the weights as long as networks are open.
"""

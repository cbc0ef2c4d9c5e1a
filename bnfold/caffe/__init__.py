"""Reading and writing Caffe: prototxt and caffemodel on one side, `bnfold.net.Net` on the other."""

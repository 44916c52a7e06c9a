"""From a float ONNX file and photos to an integer .espdl: esp-ppq behind one function, with the precision of each
operator chosen by name, and with checks of what the chips' runtime cannot do."""

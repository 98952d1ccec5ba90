"""Why a config does not run as it ships, in plain words, for check_drop_in.py."""
import re

#: What an error of a config that does not run unchanged either means.
REASONS = {
    "no attribute 'assigner'": 'Only for testing: it has no train_cfg',
    r'size of tensor a \(4\) must match': 'Only for testing: it names no loss that its head can take',
    'requires the SentencePiece library': 'Needs the package sentencepiece and the weights of a language model',
    'load the files, and couldn\'t find them': 'Needs the weights of a language model, which it downloads',
    'urlopen error': 'Needs a file that it downloads',
    "unexpected keyword argument 'max_txt_len'": 'Gives Blip2Retrieval an argument that it does not have',
    'weight tensor should be defined': 'Its class weights are those of another data set',
    '`mean` should have 1 or 3 values': 'Six channels, for which the preprocessor has no place',
    "unexpected keyword argument 'force_grad_on_level'": 'Gives FPN an argument that it does not have',
    r'object.__init__\(\) takes exactly|cache_position': 'GLIP needs an earlier transformers',
    'inheritance chain must match': 'Inherits a config of another style',
    'does not exist|No such file': 'Inherits a file that is not there',
    "KeyError: 'test_pipeline'": 'Inherits a variable that is not there',
}


def describe(error: Exception) -> str:
    """One line: the reason in plain words where it is known, and the error."""
    text = re.sub(r'\s+', ' ', f'{type(error).__name__}: {error}').replace('|', '/')
    reason = next((f'{reason}. ' for pattern, reason in REASONS.items() if re.search(pattern, text)), '')
    return reason + (text if len(text) <= 240 else f'{text[:237]}...')
